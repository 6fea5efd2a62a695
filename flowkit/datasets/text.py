"""Text files that people make: lists of videos, class files, splits.

UTF-8 with or without a byte order mark, and UTF-16 or UTF-32 with one, as spreadsheets and Windows' editor
write them. Any other encoding cannot be recognised by its bytes: it is refused with the line of the first
wrong byte.
"""

from __future__ import annotations

import codecs
import csv
import io
from typing import TYPE_CHECKING, Any

from flowkit.errors import InputError
from flowkit.remote import Location

MOST_BYTES = 1 << 28
"""Of a file: lists of 2,000,000 videos."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # The mark of UTF-32's small end begins with that of UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes, *, source: str) -> str:
    """Return the text of a file's bytes, its lines ended by a line feed.

    Parameters
    ----------
    data : bytes
        All of the file.
    source : str
        Its name, for messages.

    Raises
    ------
    InputError
        It is neither UTF-8 nor UTF-16 or UTF-32 with a byte order mark, or holds NUL bytes.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    data = data.removeprefix(mark)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise InputError(
            f"{source}:{line}: byte 0x{data[error.start]:02x} is not {encoding.upper()}; "
            "expected UTF-8, or UTF-16 with a byte order mark: save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{source}:{line}: a NUL byte: this is no text file, or UTF-16 without a mark")
    # Lines may end as on Windows or on old Macintoshes.
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


if TYPE_CHECKING:
    _DictReader = csv.DictReader[str]
else:
    _DictReader = csv.DictReader  # has no parameter before Python 3.12


class _Rows(_DictReader):
    """Rows whose faults are InputErrors: a cell of over 131,072 characters, mostly of a quote not closed."""

    source = ""

    def __next__(self) -> dict[str | Any, str | Any]:
        try:
            return super().__next__()
        except csv.Error as error:
            raise self.fault(error) from error

    def fault(self, error: csv.Error) -> InputError:
        return InputError(
            f"{self.source}:{self.line_num + 1}: {error}; expected CSV of short cells: is a quote not closed?"
        )


def csv_rows(text: str, *, source: object = "the CSV") -> csv.DictReader[str]:
    """Return the rows of a CSV text with a header, whose columns commas, semicolons or tabs divide.

    Names of columns lose spaces around them and capital letters.

    Parameters
    ----------
    text
        The CSV.
    source
        Its name, for messages.

    Raises
    ------
    InputError
        A cell is too long, here or where the rows are drawn.
    """
    header = text.partition("\n")[0]
    rows = _Rows(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    rows.source = str(source)
    try:
        rows.fieldnames = [name.strip().casefold() for name in rows.fieldnames or []]
    except csv.Error as error:
        raise rows.fault(error) from error
    return rows


def read_text(path: Location) -> str:
    """Return the text of a file; as `decode_text`.

    Raises
    ------
    InputError
        It cannot be read, is larger than MOST_BYTES, or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # of a device, that would go on for ever
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES} bytes; expected a list of videos or classes")
    return decode_text(data, source=str(path))
