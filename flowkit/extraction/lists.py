"""Lists of videos: TSN's `path [nframes] label`, or CSV with a header."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from flowkit.errors import InputError

# Column names that are in use for one meaning, ours first (Kinetics: youtube_id, time_start).
_COLUMNS = {
    "path": ("path", "video", "video_path", "file", "filename", "youtube_id"),
    "label": ("label", "class", "class_name"),
    "start": ("start", "start_seconds", "time_start"),
    "end": ("end", "end_seconds", "time_end"),
    "id": ("id", "video_id"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ListEntry:
    """An entry of a list: its path and the optional columns (None: absent).

    Attributes
    ----------
    path : str
        The video, as the list writes it.
    label : str or None
        Its class.
    start_seconds, end_seconds : float or None
        The range that is wanted, seconds from the video's start, 0 <= start < end.
    video_id : str or None
        Its id in the store.
    """

    path: str
    label: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    video_id: str | None = None

    def __post_init__(self) -> None:
        """Check the times."""
        start = 0.0 if self.start_seconds is None else self.start_seconds
        end = math.inf if self.end_seconds is None else self.end_seconds
        if not 0 <= start < end:
            raise InputError(f"{self.path}: start must be >= 0 and before end, got {start:g} to {end:g} s")


def parse_list(
    lines: Iterable[str], *, source: str, classes: Mapping[int, str] | None = None
) -> list[ListEntry]:
    """Parse a list of videos.

    Parameters
    ----------
    lines : iterable of str
        Either TSN's form, `path`, `path label` or `path nframes label` a line (the path may
        hold spaces if a frame count and a label follow), or CSV with a header that has a
        `path` column and may have `label`, `start`, `end` (seconds) and `id`. Blank lines
        and lines that start with `#` are skipped.
    source : str
        The list's name, for messages.
    classes : mapping of int to str, optional
        Names of integer labels, of `flowkit.datasets.parse_classes`; without it the integer is the label.

    Raises
    ------
    InputError
        A line or a header cannot be read, a label is not in `classes`, or a label contradicts
        the class folder of its path (a list counted from 0 beside a class file counted from 1).
    """
    kept = [
        (number, line.rstrip("\r\n"))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not kept:
        raise InputError(f"{source}: the list is empty")
    header = [name.strip().lower() for name in next(csv.reader([kept[0][1]]))]
    if any(name in header for name in _COLUMNS["path"]):
        entries = _parse_csv(kept, source)
    else:
        entries = [_parse_line(line, f"{source}:{number}") for number, line in kept]
    return [_with_name(entry, classes, source) for entry in entries] if classes else entries


def _parse_line(line: str, where: str) -> ListEntry:
    match = re.fullmatch(r"(.+?)\s+(\d+)\s+(\S+)", line.strip())
    if match:
        return ListEntry(path=match[1], label=match[3])
    words = line.split()
    if len(words) <= 2:
        return ListEntry(path=words[0], label=words[1] if len(words) == 2 else None)
    raise InputError(
        f"{where}: expected `path`, `path label` or `path nframes label`, got {line!r}; "
        "for paths with spaces use CSV with a header (path,label)"
    )


def _parse_csv(lines: Sequence[tuple[int, str]], source: str) -> list[ListEntry]:
    rows = csv.reader([line for _, line in lines])
    header = [name.strip().lower() for name in next(rows)]
    column = {
        key: next((header.index(name) for name in names if name in header), None)
        for key, names in _COLUMNS.items()
    }
    entries = []
    for (number, line), row in zip(lines[1:], rows, strict=False):
        cells = {
            key: row[at].strip() if at is not None and at < len(row) else "" for key, at in column.items()
        }
        if not cells["path"]:
            raise InputError(f"{source}:{number}: no path in {line!r}")
        entries.append(
            ListEntry(
                path=cells["path"],
                label=cells["label"] or None,
                start_seconds=_seconds(cells["start"], f"{source}:{number}"),
                end_seconds=_seconds(cells["end"], f"{source}:{number}"),
                video_id=cells["id"] or None,
            )
        )
    return entries


def _seconds(text: str, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise InputError(f"{where}: expected a time in seconds, got {text!r}") from None


def _with_name(entry: ListEntry, classes: Mapping[int, str], source: str) -> ListEntry:
    if entry.label is None or entry.label in classes.values():
        return entry
    number = int(entry.label) if entry.label.isdecimal() else -1
    if number not in classes:
        raise InputError(
            f"{source}: label {entry.label!r} of {entry.path} is not in the class file "
            f"(it has {min(classes)} to {max(classes)})"
        )
    name = classes[number]
    folders = set(entry.path.split("/")[:-1]) & set(classes.values())
    if folders and name not in folders:
        raise InputError(
            f"{source}: label {number} of {entry.path} is {name!r} in the class file, but the folder says "
            f"{', '.join(sorted(folders))}: one of them counts from 0, the other from 1; "
            "give a class file with one name a line for lists that count from 0"
        )
    return dataclasses.replace(entry, label=name)
