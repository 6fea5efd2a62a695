"""Pages from templates: what is escaped, what a page may do, and how it comes to the disk."""

from __future__ import annotations

import base64
import json
import re
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from flowkit import html

HOSTILE = "</script></style><img src=x onerror=alert(1)>&amp;\"'\u2028\u2029{{ 7 * 7 }}{% endblock %}"
STYLE = ".a::before { content: '<'; }"
SCRIPT = 'if (1 < 2 && "{{ 7 * 7 }}") alert(1);'


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> html.Page:
    """A page whose template can be written by `put`, in a package of its own."""
    package = f"made_{abs(hash(tmp_path))}"
    (tmp_path / package / "templates").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / package / "templates" / "a.css").write_text(STYLE)
    (tmp_path / package / "templates" / "b.css").write_text("p { margin: 0 }")
    (tmp_path / package / "templates" / "a.js").write_text(SCRIPT)
    return html.Page(
        template=f"{package}/a.html",
        styles=(f"{package}/a.css", f"{package}/b.css"),
        script=f"{package}/a.js",
    )


def put(tmp_path: Path, page: html.Page, template: str) -> None:
    package, name = page.template.split("/")
    (tmp_path / package / "templates" / name).write_text(template)


def written(tmp_path: Path, page: html.Page, template: str, **context: object) -> str:
    put(tmp_path, page, template)
    path = tmp_path / "page.html"
    assert html.write_page(path, page, context) == path.stat().st_size
    return path.read_text(encoding="utf-8")


def test_names_are_text_in_elements_and_attributes(tmp_path: Path, page: html.Page) -> None:
    found = written(tmp_path, page, '<p title="{{ name }}">{{ name }}</p>', name=HOSTILE)
    inside = re.fullmatch(r'<p title="([^"<>]*)">([^<>]*)</p>', found)
    assert inside
    assert [unescape(text) for text in inside.groups()] == [HOSTILE, HOSTILE]


def test_what_is_put_in_is_no_template(tmp_path: Path, page: html.Page) -> None:
    assert written(tmp_path, page, "{{ name }}", name="{{ 7 * 7 }}") == "{{ 7 * 7 }}"


def test_style_and_script_go_in_as_they_are_and_the_policy_names_their_hashes(
    tmp_path: Path, page: html.Page
) -> None:
    found = written(tmp_path, page, "{{ policy }}\n<style>{{ style }}</style><script>{{ script }}</script>")
    policy, rest = found.split("\n", 1)
    style = STYLE + "p { margin: 0 }"
    assert rest == f"<style>{style}</style><script>{SCRIPT}</script>"
    style_hash, script_hash = (
        base64.b64encode(sha256(text.encode()).digest()).decode() for text in (style, SCRIPT)
    )
    assert unescape(policy) == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'"
    )


def test_json_in_a_script_element_cannot_end_it_and_comes_back(tmp_path: Path, page: html.Page) -> None:
    value = {HOSTILE: [HOSTILE, 1.5, None]}
    found = written(tmp_path, page, "{{ data|json_for_script }}", data=value)
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == value
    with pytest.raises(ValueError, match="JSON"):
        html.json_for_script([float("nan")])


def test_data_uri_holds_the_bytes() -> None:
    head, coded = html.data_uri(b"\x00\xff<", "image/webp").split(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(coded) == b"\x00\xff<"


def test_coordinates_have_five_digits() -> None:
    assert [html.five_digits(x) for x in (0.0, 200.0, 1 / 3, 123.456789)] == ["0", "200", "0.33333", "123.46"]


def test_template_that_names_what_is_not_there_fails_and_leaves_the_last_page(
    tmp_path: Path, page: html.Page
) -> None:
    (tmp_path / "page.html").write_text("old")
    put(tmp_path, page, "<p>{{ absent }}</p>")
    with pytest.raises(UndefinedError, match="absent"):
        html.write_page(tmp_path / "page.html", page, {})
    assert (tmp_path / "page.html").read_text() == "old"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".html"]


def test_name_that_no_encoding_has_does_not_cost_the_page(tmp_path: Path, page: html.Page) -> None:
    assert written(tmp_path, page, "<p>{{ name }}</p>", name="a\udcffb") == "<p>a?b</p>"


def test_long_pages_are_never_in_memory_as_a_whole(tmp_path: Path, page: html.Page) -> None:
    def blocks() -> Iterator[str]:
        for k in range(64):
            yield chr(65 + k % 26) * 2**18

    put(tmp_path, page, "{% for block in blocks %}{{ block }}{% endfor %}")
    tracemalloc.start()
    try:
        size = html.write_page(tmp_path / "page.html", page, {"blocks": blocks()})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * 2**18
    assert peak < size / 4  # and 2 MB or so are the compiled template's
