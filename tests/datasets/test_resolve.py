"""Requests for splits, without a command line; tests/cli/test_split_options.py has each option."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowkit.datasets import Split, SplitRequest, resolve_splits, splits_of_labels, write_split
from flowkit.errors import InputError, InvalidParameterError
from flowkit.store.read.store import Store, open_store
from tests.make.stores import steady, write_store

IDS = ("jump/v_jump_g01_c01", "jump/v_jump_g02_c01", "walk/v_walk_g01_c01", "walk/v_walk_g02_c01")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(write_store(tmp_path / "out.h5", {name: steady(1, 1, 0) for name in IDS}))


def test_without_a_request_it_is_the_only_split_beside_the_store(store: Store) -> None:
    halves = Split(name="halves", kind="subset", parts={k: "train" if "_g01_" in k else "test" for k in IDS})
    write_split(store.path, halves)
    assert resolve_splits(store) == (halves,)
    assert resolve_splits(store, SplitRequest(split=("halves",))) == (halves,)


def test_folds_are_made_of_all_videos(store: Store) -> None:
    (split,) = resolve_splits(store, SplitRequest(folds=2, group=r"g(\d+)", fold=("0",)))
    assert (split.kind, set(split.parts)) == ("fold", set(IDS))
    (out,) = resolve_splits(store, SplitRequest(leave_one_out=True, group=r"g(\d+)"))
    assert out.names == ("01", "02")


def test_clips_without_a_store_are_divided_alike(store: Store, tmp_path: Path) -> None:
    labels = dict(zip(store, store.column("label"), strict=True))
    request = SplitRequest(folds=2, group=r"g(\d+)")
    assert splits_of_labels(labels, request) == resolve_splits(store, request)
    rows = [f"{name},{part}" for name, part in zip(IDS, ("train", "test", "train", "test"), strict=True)]
    (tmp_path / "own.csv").write_text("\n".join(["id,subset", *rows]))
    (split,) = splits_of_labels(labels, SplitRequest(split=(str(tmp_path / "own.csv"),)))
    assert split.ids("test") == IDS[1::2]
    with pytest.raises(InputError, match=r"--split own: no such \.csv file"):
        splits_of_labels(labels, SplitRequest(split=("own",)))
    with pytest.raises(InputError, match="no split was named"):
        splits_of_labels(labels, SplitRequest())


def test_choices_that_exclude_one_another_are_refused_before_the_store_is_read() -> None:
    with pytest.raises(InvalidParameterError, match="--ucf101 and --folds exclude one another"):
        SplitRequest(ucf101=Path(), folds=2)
    with pytest.raises(InvalidParameterError, match="--list goes with --ucf101 or --hmdb51"):
        SplitRequest(list=(1,))


def test_no_split_beside_the_store_is_an_error(store: Store) -> None:
    with pytest.raises(InputError, match="no split beside"):
        resolve_splits(store)
