"""Lists of videos or of folders of frames: `path [nframes] label`, `path offset nframes label`, or CSV.

Sources: TSN's `tools/build_file_list.py`; open-mmlab/mmaction2, `RawframeDataset` (with_offset: the frames
from number offset on, counted from the folder's first one).
"""

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
# Of lists of folders of frames alone: a video's frames are counted when it is read.
_FOLDER_COLUMNS = {
    "offset": ("offset", "first_frame", "start_frame", "start_index"),
    "frames": ("frames", "nframes", "n_frames", "num_frames", "total_frames", "frame_count"),
}
COLUMN_NAMES = ("path", "offset", "frames", "label")
"""Columns that a list of folders without a header may have."""


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
    first_frame, n_frames : int or None
        Of a folder of frames: the first one that is wanted, counted from 0, and how many; or only how many
        the folder has.
    """

    path: str
    label: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    video_id: str | None = None
    first_frame: int | None = None
    n_frames: int | None = None

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
    of_folders: bool = False,
    columns: Sequence[str] = (),
) -> VideoList:
    """Parse a list of videos, or of folders of frames.

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
    of_folders : bool
        The paths are folders of frames: counts of frames are read, `path offset nframes label` is some of a
        folder's frames, and a CSV may have `offset` and `frames`.
    columns : sequence of str
        Of a list of folders without a header: what its columns are, of `COLUMN_NAMES`.

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
    if columns:
        check_columns(columns)
        if delimiter:
            raise InputError(f"{source} has a header, {kept[0][1]!r}; leave the names of its columns out")
        entries = [_of_named(line, columns, f"{source}:{number}") for number, line in kept]
    elif delimiter:
        entries = _parse_csv(kept, source, delimiter, {**_COLUMNS, **(_FOLDER_COLUMNS if of_folders else {})})
    elif of_folders:
        entries = [_parse_folder_line(line, f"{source}:{number}", is_video) for number, line in kept]
        _check_forms(kept, entries, source)
        _check_counts(kept, entries, source, labelled=bool(classes))
        _check_columns(entries, source, is_video)
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


# mmaction2's `path offset nframes label`, and the same with several labels.
_OFFSET = re.compile(r"(.+?)\s+(\d+)\s+(\d+)\s+(\S+)")
_FIVE = re.compile(r"(\S.*?)((?:\s+\d+){4,})")


def _parse_folder_line(line: str, where: str, is_video: Callable[[str], bool]) -> ListEntry:
    """Return the entry of `path`, `path label`, `path nframes label` or `path offset nframes label`."""
    line = "\t".join(cell.strip() for cell in line.strip().split("\t"))
    counted, offset, five = (form.fullmatch(line) for form in (_COUNTED, _OFFSET, _FIVE))
    if is_video(line):
        return ListEntry(path=line)
    if counted and is_video(counted[1]):
        return ListEntry(path=counted[1], label=counted[3], n_frames=int(counted[2]))
    if five and not (offset and is_video(offset[1])):
        raise InputError(
            f"{where}: {five[1]} has several labels or more columns than path, offset, nframes, label: "
            f"{', '.join(five[2].split())}; a clip has one class; list it under the one that you train"
        )
    if offset:
        return ListEntry(path=offset[1], label=offset[4], first_frame=int(offset[2]), n_frames=int(offset[3]))
    if counted:
        return ListEntry(path=counted[1], label=counted[3], n_frames=int(counted[2]))
    return _of_cells(line.split("\t") if "\t" in line else line.split(), line, where)


def _check_counts(
    lines: Sequence[tuple[int, str]], entries: Sequence[ListEntry], source: str, *, labelled: bool
) -> None:
    """Raise if only some lines have an offset, or all one number of which nobody knows what it is."""
    ranged = [
        number for (number, _), entry in zip(lines, entries, strict=True) if entry.first_frame is not None
    ]
    if ranged and len(ranged) < len(entries):
        raise InputError(
            f"{source}: {len(ranged)} of {len(entries)} lines have an offset (line {ranged[0]}), expected "
            "one on each or on none"
        )
    bare = [entry for entry in entries if entry.n_frames is None and (entry.label or "").isdecimal()]
    if bare and not labelled:
        raise InputError(
            f"{source}: the number behind {bare[0].path} may be its frames or its class; say which with "
            "--list-columns path,frames or --list-columns path,label"
        )


def check_columns(columns: Sequence[str]) -> None:
    """Raise InputError unless these can be the columns of a list of folders."""
    unknown = [name for name in columns if name not in COLUMN_NAMES]
    if unknown or len(set(columns)) < len(columns) or "path" not in columns:
        raise InputError(
            f"columns of a list are path and some of {', '.join(COLUMN_NAMES[1:])}, each once; got "
            f"{','.join(columns)}"
        )
    if "offset" in columns and "frames" not in columns:
        raise InputError("a list with the column offset needs the column frames too: how many from there on")


def _of_named(line: str, columns: Sequence[str], where: str) -> ListEntry:
    """Return the entry of a line whose columns were named; a path in front may have spaces."""
    line, count = line.strip(), len(columns)
    cells = line.split()
    for mark in _DELIMITERS:
        if len(cells) != count and mark in line:
            cells = next(csv.reader([line], delimiter=mark))
    if len(cells) > count and columns[0] == "path":
        cells = line.rsplit(None, count - 1)
    if len(cells) != count or not all(cells):
        raise InputError(f"{where}: expected {count} columns, {','.join(columns)}, got {line!r}")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    return _of_columns({**dict.fromkeys((*_COLUMNS, *_FOLDER_COLUMNS), ""), **given}, where)


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


def _parse_csv(
    lines: Sequence[tuple[int, str]], source: str, delimiter: str, columns: Mapping[str, Sequence[str]]
) -> list[ListEntry]:
    rows = csv.reader([line for _, line in lines], delimiter=delimiter)
    header = [name.strip().lower() for name in next(rows)]
    column = {
        key: next((header.index(name) for name in names if name in header), None)
        for key, names in columns.items()
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
            first_frame=_count(cells.get("offset", ""), where),
            n_frames=_count(cells.get("frames", ""), where),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _seconds(text: str, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise InputError(f"{where}: expected a time in seconds, got {text!r}") from None


def _count(text: str, where: str) -> int | None:
    if text and not text.isdecimal():
        raise InputError(f"{where}: expected a number of frames, got {text!r}")
    return int(text) if text else None


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
