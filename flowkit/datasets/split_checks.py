"""What a split must hold before anything is trained on it, and how its classes are balanced."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping

from flowkit.datasets.splits import TRAIN, Split
from flowkit.errors import InputError

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BalanceRow:
    """One class: how many of its videos each subset or fold has."""

    label: str
    counts: Mapping[str, int]


def check_split(split: Split, labels: Mapping[str, str]) -> None:
    """Hold a split to the store that it is of.

    Parameters
    ----------
    labels
        Label of each id of the store.

    Raises
    ------
    InputError
        A listed video is not in the store or has no label, a group lies on both sides, or a
        class is in no training set.
    """
    if missing := [k for k in split.parts if k not in labels]:
        raise InputError(
            f"{len(missing)} videos of split {split.name!r} are not in the store: {missing[:_NAMED]}"
        )
    if unlabelled := [k for k in split.parts if not labels[k]]:
        raise InputError(
            f"{len(unlabelled)} videos of split {split.name!r} have no label: {unlabelled[:_NAMED]}"
        )
    _check_groups(split)
    _check_classes(split, labels)


def class_balance(split: Split, labels: Mapping[str, str]) -> list[BalanceRow]:
    """Return how many videos of each class each subset or fold has, by class name."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for video_id, part in split.parts.items():
        counts[labels[video_id]][part] += 1
    return [
        BalanceRow(label=label, counts={name: counts[label][name] for name in split.names})
        for label in sorted(counts)
    ]


def _check_groups(split: Split) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for video_id, group in split.groups.items():
        sides[group].add(split.parts[video_id])
    if leaks := {group: sorted(parts) for group, parts in sides.items() if len(parts) > 1}:
        group, parts = next(iter(leaks.items()))
        raise InputError(
            f"the split {split.name!r} leaks: {len(leaks)} groups lie on several sides, as {group!r} in "
            f"{' and '.join(parts)}; a group's videos must stay together"
        )


def _check_classes(split: Split, labels: Mapping[str, str]) -> None:
    for row in class_balance(split, labels):
        if split.kind == "subset" and not row.counts.get(TRAIN, 0):
            raise InputError(f"class {row.label!r} of split {split.name!r} has no video to train on")
        if split.kind == "fold" and sum(n > 0 for n in row.counts.values()) < 2:
            raise InputError(
                f"class {row.label!r} of split {split.name!r} lies in one fold: when that is tested on, "
                "there is no video of it to train on"
            )
