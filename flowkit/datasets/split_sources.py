"""Sources of splits: the lists of UCF101 and HMDB51, a CSV file, or groups of the ids.

Sources: UCF101's `ucfTrainTestlist` (classes from 1 in `classInd.txt`; `trainlist0N.txt` has
``class/video.avi label``, `testlist0N.txt` has no label) and HMDB51's `testTrainMulti_7030_splits`
(one file a class, ``video.avi flag``: 1 train, 2 test, 0 unused).
"""

from __future__ import annotations

import dataclasses
import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flowkit.datasets.splits import TEST, TRAIN, Split, parse_split
from flowkit.datasets.text import csv_rows, read_text
from flowkit.errors import InputError, InvalidParameterError
from flowkit.remote import Location, locate
from flowkit.validate import check_that

UCF101_GROUP = r"_g(\d+)_c\d+"
_HMDB51_FLAGS = {"0": None, "1": TRAIN, "2": TEST}
_NAMED = 5


class _Lookup:
    """Finds the id of a file that a list names: by its path, else by its name if that is unique."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = set(ids)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for video_id in self._ids:
            self._by_name[PurePosixPath(video_id).name].append(video_id)

    def find(self, path: str) -> str | None:
        """Return the id of `path`, whose suffix the id may lack; None if there is none."""
        stem = re.sub(r"\.[A-Za-z0-9]{1,5}\Z", "", path)
        for candidate in (path, stem):
            if candidate in self._ids:
                return candidate
        for name in (PurePosixPath(stem).name, PurePosixPath(path).name):
            found = self._by_name.get(name, [])
            if len(found) == 1:
                return found[0]
        return None


def parse_classes(lines: Iterable[str], *, source: str) -> dict[int, str]:
    """Parse a class file: `index name` lines (UCF101's classInd.txt), or one name a line from 0.

    Raises
    ------
    InputError
        The file is empty, or an index or a name occurs twice.
    """
    kept = [line.strip() for line in lines if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[\s,]+(.+)", line) for line in kept]
    if kept and all(numbered):
        pairs = [(int(match[1]), match[2].strip()) for match in numbered if match]
    else:
        pairs = list(enumerate(kept))
    names = dict(pairs)
    if not names or len(names) < len(pairs) or len(set(names.values())) < len(pairs):
        raise InputError(f"{source}: expected one class a line, each index and name once")
    return names


def split_from_ucf101(
    folder: Path | str, number: int, labels: Mapping[str, str], *, allow_missing: bool = False
) -> Split:
    """Return one of UCF101's splits, as `ucf101-<number>`.

    Parameters
    ----------
    folder
        Has `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`.
    number
        1, 2 or 3.
    labels
        Label of each id of the store.
    allow_missing
        Leave out, with a warning, videos that the store lacks.

    Raises
    ------
    InputError
        A file is absent or malformed, a video is not in the store, or its label is another.
    """
    folder = Path(folder)
    classes = parse_classes(_lines(folder / "classInd.txt"), source="classInd.txt")
    listed: dict[str, str] = {}
    for part in (TRAIN, TEST):
        name = f"{part}list{number:02d}.txt"
        for row, line in enumerate(_lines(folder / name), 1):
            path, _, label = line.partition(" ")
            expected = path.split("/")[0]
            if label and classes.get(int(label) if label.strip().isdigit() else -1) != expected:
                raise InputError(f"{name}:{row}: label {label!r} is not class {expected!r} of classInd.txt")
            _add(listed, path, part, f"{name}:{row}")
    split = _matched(f"ucf101-{number}", listed, labels, allow_missing)
    return dataclasses.replace(split, groups=groups_by_pattern(split.parts, UCF101_GROUP))


def split_from_hmdb51(
    folder: Path | str, number: int, labels: Mapping[str, str], *, allow_missing: bool = False
) -> Split:
    """Return one of HMDB51's splits, as `hmdb51-<number>`; parameters as `split_from_ucf101`'s.

    Parameters
    ----------
    folder
        Has `<class>_test_split<number>.txt` for each class.
    """
    ending = f"_test_split{number}.txt"
    files = sorted(Path(folder).glob(f"*{ending}"))
    if not files:
        raise InputError(f"{folder} has no file <class>{ending}")
    listed: dict[str, str] = {}
    for path in files:
        for row, line in enumerate(_lines(path), 1):
            name, _, flag = line.rpartition(" ")
            if flag not in _HMDB51_FLAGS:
                raise InputError(f"{path.name}:{row}: expected `video 0|1|2`, got {line!r}")
            part = _HMDB51_FLAGS[flag]
            if part is not None:
                _add(listed, f"{path.name.removesuffix(ending)}/{name.strip()}", part, f"{path.name}:{row}")
    return _matched(f"hmdb51-{number}", listed, labels, allow_missing)


def split_from_csv(
    path: Location | str, name: str, ids: Iterable[str], *, allow_missing: bool = False
) -> Split:
    """Return the split of a CSV file with the columns `id`, `subset` or `fold`, and perhaps `group`.

    Ids may be paths of files: the part below the store's input folder, with or without suffix.

    Parameters
    ----------
    path
        The CSV file.
    name
        Name of the split.
    ids
        Ids of the store's videos.
    allow_missing
        Leave out, with a warning, videos that the store lacks.

    Raises
    ------
    InputError
        The file is malformed, a video is not in the store, or one is named twice.
    """
    given = parse_split(locate(path), name)
    matched = _match(name, given.parts, ids, allow_missing)
    groups = {matched[k]: group for k, group in given.groups.items() if k in matched}
    parts = {matched[k]: part for k, part in given.parts.items() if k in matched}
    return Split(name=name, kind=given.kind, parts=parts, groups=groups)


def groups_by_pattern(ids: Iterable[str], pattern: str) -> dict[str, str]:
    r"""Return the group of each id: the text that `pattern` captures, as ``g(\d+)`` or ``s(\d+)_``.

    Raises
    ------
    InvalidParameterError
        It is no regular expression.
    InputError
        It does not occur in an id.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidParameterError(f"group pattern {pattern!r} is no regular expression: {error}") from None
    hits = {video_id: compiled.search(video_id) for video_id in ids}
    if without := [video_id for video_id, hit in hits.items() if hit is None]:
        raise InputError(f"the group pattern {pattern!r} does not occur in {without[:_NAMED]}")
    return {k: "-".join(hit.groups("") or [hit[0]]) for k, hit in hits.items() if hit}


def groups_from_csv(path: Location | str, ids: Iterable[str], *, column: str = "group") -> dict[str, str]:
    """Return the group of each id by a table: a CSV file with a header.

    Parameters
    ----------
    path
        The file, or an address. Its column `id` or, without one, `path` or `video` names the video: by its
        id, by a path whose suffix the id may lack, or by a file's name that no other id has.
    ids
        The videos; rows of others are left out.
    column
        The column of groups.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, an id has no row or an empty cell, or two rows with
        different groups.
    """
    wanted = list(ids)
    groups = _column_of(path, wanted, column)
    if without := [video_id for video_id in wanted if video_id not in groups]:
        raise InputError(f"{path} has no row for {len(without)} videos: {without[:_NAMED]}")
    return groups


def labels_from_csv(path: Location | str, ids: Iterable[str]) -> dict[str, str]:
    """Return the label of each id that a table has: a CSV file as `groups_from_csv` reads it, column `label`.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, or an id has an empty cell or two labels.
    """
    return _column_of(path, ids, "label")


def _column_of(path: Location | str, ids: Iterable[str], column: str) -> dict[str, str]:
    """Return the cell of each id that a table has a row of."""
    rows = csv_rows(read_text(locate(path)), source=path)
    columns = rows.fieldnames or []
    key = next((name for name in ("id", "path", "video") if name in columns), None)
    if key is None or column not in columns:
        raise InputError(f"{path}: expected the columns id or path, and {column}, got {list(columns)}")
    lookup, found = _Lookup(ids), dict[str, str]()
    for number, row in enumerate(rows, 2):
        video_id, cell = lookup.find(row[key] or ""), row[column] or ""
        if video_id is None:
            continue
        if not cell or found.setdefault(video_id, cell) != cell:
            raise InputError(f"{path}:{number}: {column} is empty, or {video_id!r} has another one above")
    return found


def k_fold(
    labels: Mapping[str, str], folds: int, *, groups: Mapping[str, str] | None = None, seed: int = 0
) -> Split:
    """Divide videos into folds of even class counts, each group whole, as `<folds>-fold`.

    Parameters
    ----------
    labels
        Label of each id.
    folds
        Number of folds, from 2 to the number of groups.
    groups
        Group of each id; without them each video is its own.
    seed
        Decides between equal choices.

    Raises
    ------
    InvalidParameterError
        `folds` is below 2 or above the number of groups.
    """
    by_group: dict[str, list[str]] = defaultdict(list)
    for video_id in labels:
        by_group[(groups or {}).get(video_id, video_id)].append(video_id)
    most = len(by_group)
    if most < 2:
        raise InvalidParameterError(
            f"{folds} folds need 2 groups or more, each whole in one fold (a video without a group is its "
            f"own), and {len(labels)} videos are in {most}: {sorted(by_group)}; add videos, or finer groups"
        )
    check_that("folds", folds, 2 <= folds <= most, f"in [2, {most}] (the number of groups)")
    order = sorted(by_group)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -len(by_group[group]))  # large ones first: small ones even out
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    chosen: dict[str, int] = {}
    for group in order:
        own = Counter(labels[video_id] for video_id in by_group[group])
        fold = min(range(folds), key=lambda k: (_unevenness(counts[k], own), counts[k].total()))
        counts[fold] += own
        chosen |= dict.fromkeys(by_group[group], fold)
    parts = {video_id: str(chosen[video_id]) for video_id in labels}
    return Split(name=f"{folds}-fold", kind="fold", parts=parts, groups=dict(groups or {}))


def leave_one_out(groups: Mapping[str, str]) -> Split:
    """Make each group a fold, as `leave-one-out`.

    Parameters
    ----------
    groups
        Group of each id.

    Raises
    ------
    InvalidParameterError
        There is one group only.
    """
    if len(set(groups.values())) < 2:
        raise InvalidParameterError(f"leave-one-out needs 2 groups or more, got {set(groups.values())}")
    return Split(name="leave-one-out", kind="fold", parts=dict(groups), groups=dict(groups))


def _unevenness(counts: Counter[str], added: Counter[str]) -> int:
    """Return the growth of the sum of squared class counts: least for classes that a fold lacks."""
    return sum((counts[label] + n) ** 2 - counts[label] ** 2 for label, n in added.items())


def _lines(path: Path) -> Sequence[str]:
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def _add(listed: dict[str, str], path: str, part: str, where: str) -> None:
    if listed.setdefault(path, part) != part:
        raise InputError(f"{where}: {path} is in both train and test")


def _matched(name: str, listed: Mapping[str, str], labels: Mapping[str, str], allow_missing: bool) -> Split:
    """Return the split of listed `class/file` paths, checked against the store's labels."""
    matched = _match(name, listed, labels, allow_missing)
    for path, video_id in matched.items():
        expected = path.split("/")[0]
        if labels[video_id] != expected:
            raise InputError(
                f"{path} is of class {expected!r}, but the store's label is {labels[video_id]!r}"
            )
    parts = {video_id: listed[path] for path, video_id in matched.items()}
    return Split(name=name, kind="subset", parts=parts)


def _match(name: str, listed: Mapping[str, str], ids: Iterable[str], allow_missing: bool) -> dict[str, str]:
    lookup = _Lookup(ids)
    found = {path: lookup.find(path) for path in listed}
    if missing := [path for path, video_id in found.items() if video_id is None]:
        message = (
            f"{len(missing)} of {len(found)} videos of split {name} are not in the store: {missing[:_NAMED]}"
        )
        if not allow_missing:
            raise InputError(
                f"{message}; extract them, or leave them out with --allow-missing (allow_missing=True)"
            )
        warnings.warn(f"{message}; they are left out", RuntimeWarning, stacklevel=3)
    matched = {path: video_id for path, video_id in found.items() if video_id is not None}
    if len(set(matched.values())) < len(matched):
        raise InputError(f"the lists of split {name} name a video twice, under different paths")
    return matched
