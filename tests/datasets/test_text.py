"""Text files in the encodings that editors and spreadsheets write."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from flowkit.datasets import text
from flowkit.datasets.text import csv_rows, decode_text, read_text
from flowkit.errors import InputError

TEXT = "1 Größe\n2 走る\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
    ids=["utf-8", "mark", "utf-16", "utf-16 big end", "utf-32", "windows lines", "old lines"],
)
def test_what_editors_write_is_read_alike(data: bytes, tmp_path: Path) -> None:
    assert decode_text(data, source="x") == TEXT
    (tmp_path / "list.txt").write_bytes(data)
    assert read_text(tmp_path / "list.txt") == TEXT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "a\nb\nGröße\n".encode("latin-1"),
            r"list\.txt:3: byte 0xf6 is not UTF-8; expected .* save the file",
        ),
        ("1 a\n2 b\n".encode("utf-16-le"), r"list\.txt:1: a NUL byte: this is no text file, or UTF-16"),
        (codecs.BOM_UTF16_LE + b"a", r"list\.txt:1: byte 0x61 is not UTF-16-LE"),
        # U+0A0A has two bytes that would be line feeds.
        (codecs.BOM_UTF16_LE + "\u0a0a\n".encode("utf-16-le") + b"a", r"list\.txt:2: byte 0x61"),
        (b"\x7fELF\0", "NUL byte"),
    ],
    ids=["latin-1", "utf-16 without a mark", "half a character", "line feeds within", "no text"],
)
def test_what_cannot_be_told_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_text(data, source="list.txt")


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt cannot be read: No such file"):
        read_text(tmp_path / "gone.txt")


def test_a_quote_that_is_not_closed_is_named_with_its_line() -> None:
    long = "y" * 200_000
    rows = csv_rows(f'id,subset\na,train\n"{long},test\n', source="s.csv")
    assert next(rows)["id"] == "a"
    with pytest.raises(InputError, match=r"s\.csv:3: field larger than field limit .* a quote not closed"):
        next(rows)
    with pytest.raises(InputError, match=r"s\.csv:1: field larger than field limit"):
        csv_rows(long, source="s.csv")


def test_a_text_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_BYTES", 1 << 16)
    with pytest.raises(InputError, match="/dev/zero has more than 65536 bytes; expected a list"):
        read_text(Path("/dev/zero"))
