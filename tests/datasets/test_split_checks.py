from __future__ import annotations

import pytest

from flowkit.datasets import Split, check_split, class_balance
from flowkit.errors import InputError

LABELS = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "none": ""}


def split(kind: str = "subset", groups: dict[str, str] | None = None, **parts: str) -> Split:
    return Split(name="s", kind=kind, parts=parts, groups=groups or {})  # type: ignore[arg-type]


def test_a_sound_split_passes() -> None:
    check_split(split(a1="train", a2="test", b1="train", b2="test"), LABELS)
    check_split(split("fold", a1="0", a2="1", b1="1", b2="0"), LABELS)


def test_a_group_on_both_sides_is_told() -> None:
    leaking = split(groups={"a1": "p", "a2": "p"}, a1="train", a2="test", b1="train")
    with pytest.raises(InputError, match=r"leaks: 1 groups.*'p' in test and train"):
        check_split(leaking, LABELS)


def test_videos_that_the_store_lacks_are_told() -> None:
    with pytest.raises(InputError, match="'z'"):
        check_split(split(z="train"), LABELS)


def test_videos_without_a_label_are_told() -> None:
    with pytest.raises(InputError, match=r"no label.*'none'"):
        check_split(split(a1="train", none="test"), LABELS)


def test_classes_that_nothing_trains_are_told() -> None:
    with pytest.raises(InputError, match=r"class 'b'.*no video to train on"):
        check_split(split(a1="train", b1="test"), LABELS)
    with pytest.raises(InputError, match=r"class 'b'.*one fold"):
        check_split(split("fold", a1="0", a2="1", b1="1", b2="1"), LABELS)


def test_balance_counts_each_class_in_each_part() -> None:
    rows = class_balance(split(a1="train", a2="test", b1="train"), LABELS)
    assert [(row.label, row.counts) for row in rows] == [
        ("a", {"test": 1, "train": 1}),
        ("b", {"test": 0, "train": 1}),
    ]
