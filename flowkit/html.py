"""Self-contained HTML pages: templates, and the content security policy that enforces it.

A page may run its own script and style and load nothing: its content security policy names their
hashes. Values in a template are escaped unless this module made them markup, so that the names of
videos, labels and stores may hold anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowkit.atomic import replacement

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_UNSAFE_IN_SCRIPT = re.compile("[<>&\u2028\u2029]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The files of one kind of page, each as `package/name` in that package's folder `templates`.

    Attributes
    ----------
    template
        It gets `policy`, `style` and `script` beside the context.
    styles
        Style sheets, joined in this order.
    script
    """

    template: str
    styles: tuple[str, ...]
    script: str


def write_page(path: Path, page: Page, context: Mapping[str, object]) -> int:
    """Write a page chunk by chunk; it appears whole or not at all, and replaces one that is there.

    Parameters
    ----------
    path
        The file, in a folder that exists.
    page
        Its kind.
    context
        Values of the template's names. Iterators are consumed as they are written, so that the page
        is never in memory as a whole. A name that is absent raises jinja2.UndefinedError.

    Returns
    -------
    int
        Bytes of the page.

    Raises
    ------
    OSError
        The file cannot be written.
    NoSpaceError
        The disk is full.
    """
    from markupsafe import Markup

    style, script = "".join(map(_read, page.styles)), _read(page.script)
    chunks = (
        _environment()
        .get_template(page.template)
        .generate(context, policy=content_policy(style, script), style=Markup(style), script=Markup(script))
    )
    with replacement(path) as temporary:
        # A name may hold halves of surrogate pairs, which no encoding has.
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(chunks)
        size = temporary.stat().st_size
    return size


def content_policy(style: str, script: str) -> str:
    """Return the content security policy of a page that may use this style and this script alone."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src {_source_hash(style)}; script-src {_source_hash(script)}"
    )


def json_for_script(value: object) -> Markup:
    """Return JSON that can stand in a script element: no `<` can end it, no `&` is read as an entity.

    Raises
    ------
    ValueError
        It holds NaN or an infinity.
    """
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(_UNSAFE_IN_SCRIPT.sub(lambda hit: f"\\u{ord(hit[0]):04x}", text))


def data_uri(data: bytes, media_type: str) -> str:
    """Return bytes as a data URI, for the `src` of an image."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def five_digits(number: float) -> str:
    """Return a number with up to five significant digits, as coordinates of SVG need them."""
    return f"{number:.5g}"


@functools.cache
def _environment() -> Environment:
    """Return the jinja2 environment, which compiles each template once."""
    # Imported here, so that commands without a page start without it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json_for_script"] = json_for_script
    environment.filters["five_digits"] = five_digits
    return environment


def _read(name: str) -> str:
    package, _, file = name.partition("/")
    return importlib.resources.files(package).joinpath("templates", file).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
