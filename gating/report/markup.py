"""HTML and SVG put together from elements, so that text is escaped unless it is known to be markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = frozenset({"br", "img"})


class Html(str):
    """Markup; every other string that becomes part of an element is text."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element.

    Parameters
    ----------
    name
        Of the element.
    children
        `Html`, other values as text, or iterables of both; None is left out.
    attributes
        Their names end in `_` where Python knows the word (`class_`), and `_` stands for `-`
        elsewhere (`aria_label`). None and False are left out, True is an attribute without a value.
        There is no `style`: the page's policy forbids it.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Return children as markup, one after the other."""
    return Html("".join(_child(one) for one in children))


def _child(one: object) -> str:
    if isinstance(one, Html):
        return one
    if one is None:
        return ""
    if isinstance(one, Iterable) and not isinstance(one, str):
        return join(*one)
    return escape(str(one))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_plain(value))}"'


def _plain(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def cells(*values: object, heading: bool = False) -> Html:
    """Return a table's row."""
    return tag("tr", [tag("th" if heading else "td", value) for value in values])


def table(head: Iterable[object], rows: Iterable[Html], *, class_: str = "figures") -> Html:
    """Return a table that scrolls sideways where it is wider than the window."""
    body = tag("table", tag("thead", cells(*head, heading=True)), tag("tbody", rows), class_=class_)
    return tag("div", body, class_="wide", tabindex=0)


def section(title: str, *children: object) -> Html:
    """Return a section of the page."""
    return tag("section", tag("h2", title), *children)


def note(*children: object) -> Html:
    """Return a remark in small print."""
    return tag("p", *children, class_="faint")


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Return names with their values, one pair a line."""
    return tag("dl", [join(tag("dt", name), tag("dd", value)) for name, value in pairs], class_="facts")


def folded(title: str, *children: object) -> Html:
    """Return what is shown only when it is asked for."""
    return tag("details", tag("summary", title), *children)


def json_for_html(value: Any) -> Html:
    """Return JSON that can stand in a script element: no `<` can end it, no `&` is read as an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Html(re.sub("[<>&\u2028\u2029]", lambda hit: f"\\u{ord(hit[0]):04x}", text))
