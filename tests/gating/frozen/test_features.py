"""Features on disk: equal when read again, completed where clips are missing, made anew where damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.store.read.store import Store
from gating.frozen import features
from gating.frozen.features import (
    ClipFeatures,
    FeatureCache,
    ModalityFeatures,
    clip_features_of,
    features_folder,
)


def made(ids: Sequence[str]) -> ClipFeatures:
    def of(offset: int) -> ModalityFeatures:
        numbers = np.array([int(one[1:]) + offset for one in ids], np.float32)
        features = numbers[:, None, None] + np.arange(6, dtype=np.float32).reshape(2, 3)
        maps = (numbers[:, None, None, None] + np.zeros((1, 4, 2, 2))).astype(np.float16)
        return ModalityFeatures(features=features, maps=maps)

    return ClipFeatures(ids=tuple(ids), flow=of(0), rgb=of(100))


def equal(one: ClipFeatures, other: ClipFeatures) -> bool:
    pairs = ((one.flow, other.flow), (one.rgb, other.rgb))
    same = [np.array_equal(getattr(a, n), getattr(b, n)) for a, b in pairs for n in ("features", "maps")]
    return one.ids == other.ids and all(same)


class Computing:
    """Counts the clips that it computes."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, ids: Sequence[str]) -> ClipFeatures:
        self.asked.append(tuple(ids))
        return made(ids)


def test_only_missing_clips_are_computed(tmp_path: Path) -> None:
    cache, compute = FeatureCache(folder=tmp_path / "f", choices={"a": 1}), Computing()
    assert equal(clip_features_of(cache, compute, ["c1", "c2"], keep=True), made(["c1", "c2"]))
    assert equal(clip_features_of(cache, compute, ["c3", "c1"], keep=True), made(["c3", "c1"]))
    assert equal(clip_features_of(cache, compute, ["c2", "c3"], keep=True), made(["c2", "c3"]))
    assert compute.asked == [("c1", "c2"), ("c3",)]


def test_other_choices_have_another_file(tmp_path: Path) -> None:
    compute = Computing()
    for choices in ({"a": 1}, {"a": 2}):
        clip_features_of(FeatureCache(folder=tmp_path, choices=choices), compute, ["c1"], keep=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(compute.asked) == 2


@pytest.mark.parametrize("damage", ["cut", "text", "short"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    import h5py

    cache, compute = FeatureCache(folder=tmp_path, choices={"a": 1}), Computing()
    clip_features_of(cache, compute, ["c1", "c2"], keep=True)
    if damage == "cut":
        cache.path.write_bytes(cache.path.read_bytes()[:700])
    elif damage == "text":
        cache.path.write_text("no HDF5")
    else:
        with h5py.File(cache.path, "a") as file:
            del file["rgb/maps"]
            file["rgb/maps"] = np.zeros((1, 4, 2, 2), np.float16)
    assert equal(clip_features_of(cache, compute, ["c1", "c2"], keep=True), made(["c1", "c2"]))
    assert compute.asked == [("c1", "c2"), ("c1", "c2")]
    assert cache.load() is not None


def test_an_interrupted_run_keeps_what_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CLIPS_A_SAVE", 2)
    cache, compute = FeatureCache(folder=tmp_path, choices={"a": 1}), Computing()

    def interrupted(ids: Sequence[str]) -> ClipFeatures:
        if len(compute.asked) == 2:
            raise KeyboardInterrupt
        return compute(ids)

    ids = ["c1", "c2", "c3", "c4", "c5"]
    with pytest.raises(KeyboardInterrupt):
        clip_features_of(cache, interrupted, ids, keep=True)
    assert equal(clip_features_of(cache, compute, ids, keep=True), made(ids))
    assert compute.asked == [("c1", "c2"), ("c3", "c4"), ("c5",)]


def test_features_of_a_store_in_a_read_only_folder_go_elsewhere(
    labelled_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = features_folder(labelled_store)
    assert beside is not None
    assert beside.name == "clips.h5.features"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert features_folder(labelled_store) is None


def test_nothing_is_written_by_other_processes(tmp_path: Path) -> None:
    cache = FeatureCache(folder=tmp_path / "f", choices={})
    clip_features_of(cache, Computing(), ["c1"], keep=False)
    assert not cache.folder.exists()
