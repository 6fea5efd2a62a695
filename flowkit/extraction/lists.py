"""Lists of videos: TSN's `path [nframes] label`, or CSV with a header."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from flowkit.errors import InputError

_DELIMITERS = ",;\t"
_NAMED = 3

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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoList:
    """The entries of a list, and notes on what of it is not among them."""

    entries: tuple[ListEntry, ...]
    notes: tuple[str, ...] = ()


def parse_list(
    lines: Iterable[str],
    *,
    source: str,
    classes: Mapping[int, str] | None = None,
    is_video: Callable[[str], bool] = lambda path: False,
) -> VideoList:
    """Parse a list of videos.

    Parameters
    ----------
    lines : iterable of str
        Either TSN's form, `path`, `path label` or `path nframes label` a line (the path may
        hold spaces if a frame count and a label follow, or if the line is a video as it stands),
        or CSV with a header, divided by commas, semicolons or tabs, that has a `path` column and may have
        `label`, `start`, `end` (seconds) and `id`. Blank lines are skipped, and so are lines
        that start with `#`, unless the video that they name exists.
    source : str
        The list's name, for messages.
    classes : mapping of int to str, optional
        Names of integer labels, of `flowkit.datasets.parse_classes`; without it the integer is the label.
    is_video : callable, optional
        Called as `is_video(path)`: returns whether a path, as the list writes it, exists.

    Raises
    ------
    InputError
        A line or a header cannot be read, some lines lack a label or have several, a label is not in
        `classes`, or a label contradicts the class folder of its path (a list counted from 0 beside a
        class file counted from 1).
    """
    numbered = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines, 1) if line.strip()]
    comments = {number: line for number, line in numbered if _is_comment(line, is_video)}
    kept = [(number, line) for number, line in numbered if number not in comments]
    if not kept:
        raise InputError(f"{source}: the list is empty{' but for comments' if comments else ''}")
    delimiter = _delimiter(kept[0][1])
    if delimiter:
        entries = _parse_csv(kept, source, delimiter)
    else:
        entries = [_parse_line(line, f"{source}:{number}", is_video) for number, line in kept]
        _check_forms(kept, entries, source)
        _check_columns(entries, source, is_video)
    if classes:
        entries = [_with_name(entry, classes, source) for entry in entries]
    _check_folders(entries, source)
    notes = []
    if comments:
        shown = ", ".join(f"line {number}: {line[:60]!r}" for number, line in [*comments.items()][:_NAMED])
        more = ", ..." if len(comments) > _NAMED else ""
        notes.append(
            f"{source}: {len(comments)} lines that start with '#' name no video and are skipped as comments "
            f"({shown}{more})"
        )
    return VideoList(entries=tuple(entries), notes=tuple(notes))


def _is_comment(line: str, is_video: Callable[[str], bool]) -> bool:
    """Return whether a line starts with # and none of the paths that it may name exists."""
    if not line.startswith("#"):
        return False
    cells = [line.strip(), line.split()[0], *(next(csv.reader([line], delimiter=d))[0] for d in _DELIMITERS)]
    counted = _COUNTED.fullmatch(line.strip())
    return not any(map(is_video, [*cells, *([counted[1]] if counted else [])]))


def _delimiter(header: str) -> str:
    """Return what divides the columns of a CSV header; "" if the line is none."""
    for delimiter in _DELIMITERS:
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
        if any(name in names for name in _COLUMNS["path"]):
            return delimiter
    return ""


# TSN's and denseflow's `path nframes label`; and the same with several labels, as multi-label sets have.
_COUNTED = re.compile(r"(.+?)\s+(\d+)\s+(\S+)")
_SEVERAL = re.compile(r"(\S+)\s+(\d+)((?:\s+\d+){2,})")


def _parse_line(line: str, where: str, is_video: Callable[[str], bool]) -> ListEntry:
    line = line.strip()
    if is_video(line):
        return ListEntry(path=line)
    if "\t" in line:
        return _of_cells(line.split("\t"), line, where)
    match, several = _COUNTED.fullmatch(line), _SEVERAL.fullmatch(line)
    if several and not (match and is_video(match[1])):
        raise InputError(
            f"{where}: {several[1]} has several labels ({', '.join(several[3].split())}), expected one: a "
            "clip has one class; list it under the one that you train"
        )
    if match:
        return ListEntry(path=match[1], label=match[3])
    return _of_cells(line.split(), line, where)


def _of_cells(cells: Sequence[str], line: str, where: str) -> ListEntry:
    """Return the entry of `path`, `path label` or `path nframes label`."""
    cells = [cell.strip() for cell in cells]
    if len(cells) == 3 and cells[1].isdecimal():
        return ListEntry(path=cells[0], label=cells[2])
    if len(cells) <= 2 and cells[0]:
        return ListEntry(path=cells[0], label=cells[1] if len(cells) == 2 else None)
    raise InputError(
        f"{where}: expected `path`, `path label` or `path nframes label`, got {line!r}; "
        "for paths with spaces use CSV with a header (path,label)"
    )


def _check_forms(lines: Sequence[tuple[int, str]], entries: Sequence[ListEntry], source: str) -> None:
    """Raise if only some lines have a label, or a number that is a frame count elsewhere."""
    without = [number for (number, _), entry in zip(lines, entries, strict=True) if entry.label is None]
    if without and len(without) < len(entries):
        raise InputError(
            f"{source}: {len(without)} of {len(entries)} lines have no label (line {without[0]}), expected "
            "one on each or on none"
        )
    counted = [bool(_COUNTED.fullmatch(line.strip())) for _, line in lines]
    short = [
        number
        for (number, _), entry, whole in zip(lines, entries, counted, strict=True)
        if not whole and (entry.label or "").isdecimal()
    ]
    if any(counted) and short:
        raise InputError(
            f"{source}: {sum(counted)} lines are `path nframes label`, and {len(short)} have one number "
            f"(line {short[0]}): a frame count without a label, or a label without a count; write all alike"
        )


def _check_columns(entries: Sequence[ListEntry], source: str, is_video: Callable[[str], bool]) -> None:
    """Raise if every path is columns of a CSV without a header."""
    for mark in ",;":
        paths = [entry.path for entry in entries]
        if all(mark in path for path in paths) and not any(map(is_video, paths)):
            raise InputError(
                f"{source}: no video has such a name: {paths[0]!r}; a list of columns divided by {mark!r} "
                f"needs a header such as path{mark}label"
            )


def _parse_csv(lines: Sequence[tuple[int, str]], source: str, delimiter: str) -> list[ListEntry]:
    rows = csv.reader([line for _, line in lines], delimiter=delimiter)
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
        entries.append(_of_columns(cells, f"{source}:{number}"))
    return entries


def _of_columns(cells: Mapping[str, str], where: str) -> ListEntry:
    times = _seconds(cells["start"], where), _seconds(cells["end"], where)
    try:
        return ListEntry(
            path=cells["path"],
            label=cells["label"] or None,
            start_seconds=times[0],
            end_seconds=times[1],
            video_id=cells["id"] or None,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


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


def _check_folders(entries: Sequence[ListEntry], source: str) -> None:
    """Raise if a label contradicts the path's folder, where folders have the names of labels."""
    labels = {entry.label for entry in entries if entry.label}
    for entry in entries:
        folders = labels & set(entry.path.split("/")[:-1])
        if entry.label and folders and entry.label not in folders:
            raise InputError(
                f"{source}: {entry.path} has the label {entry.label!r}, but its folder is that of "
                f"{', '.join(map(repr, sorted(folders)))}; correct one of them"
            )
