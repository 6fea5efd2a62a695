"""Features on disk: equal when read again, completed where clips are missing, made anew where damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.store.read.store import Store
from gating.config import Modality
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
    """Notes what it computes: the clips, and the streams where it is not both."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, ids: Sequence[str], modalities: Sequence[Modality]) -> ClipFeatures:
        self.asked.append((*ids, *(modalities if len(modalities) == 1 else ())))
        both = made(ids)
        return both if len(modalities) == 2 else both.alone(modalities[0])


def caches(folder: Path, **choices: object) -> dict[Modality, FeatureCache]:
    names: tuple[Modality, ...] = ("flow", "rgb")
    return {one: FeatureCache(folder=folder, modality=one, choices=choices) for one in names}


def test_only_missing_clips_are_computed(tmp_path: Path) -> None:
    cache, compute = caches(tmp_path / "f"), Computing()
    assert equal(clip_features_of(cache, compute, ["c1", "c2"], keep=True), made(["c1", "c2"]))
    assert equal(clip_features_of(cache, compute, ["c3", "c1"], keep=True), made(["c3", "c1"]))
    assert equal(clip_features_of(cache, compute, ["c2", "c3"], keep=True), made(["c2", "c3"]))
    assert compute.asked == [("c1", "c2"), ("c3",)]


def test_a_stream_alone_reads_what_both_have_kept(tmp_path: Path) -> None:
    both, compute = caches(tmp_path), Computing()
    clip_features_of(both, compute, ["c1", "c2"], keep=True)
    flow = clip_features_of({"flow": both["flow"]}, compute, ["c2", "c3"], keep=True)
    assert flow.modalities == ("flow",)
    assert equal(clip_features_of(both, compute, ["c1", "c3"], keep=True), made(["c1", "c3"]))
    assert compute.asked == [("c1", "c2"), ("c3", "flow"), ("c3", "rgb")]


def test_files_are_written_anew_ever_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CLIPS_A_SAVE", 2)
    compute = Computing()
    clip_features_of(caches(tmp_path), compute, [f"c{k}" for k in range(40)], keep=True)
    assert [len(ids) for ids in compute.asked] == [2, 2, 2, 2, 2, 2, 3, 3, 4, 5, 6, 7]


def test_other_choices_have_another_file(tmp_path: Path) -> None:
    compute = Computing()
    for size in (1, 2):
        clip_features_of(caches(tmp_path, size=size), compute, ["c1"], keep=True)
    assert len(list(tmp_path.iterdir())) == 4
    assert len(compute.asked) == 2


@pytest.mark.parametrize("damage", ["cut", "text", "short"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    import h5py

    cache, compute = caches(tmp_path), Computing()
    clip_features_of(cache, compute, ["c1", "c2"], keep=True)
    path = cache["rgb"].path
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:700])
    elif damage == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "a") as file:
            del file["maps"]
            file["maps"] = np.zeros((1, 4, 2, 2), np.float16)
    assert equal(clip_features_of(cache, compute, ["c1", "c2"], keep=True), made(["c1", "c2"]))
    assert compute.asked == [("c1", "c2"), ("c1", "c2", "rgb")]
    assert cache["rgb"].load() is not None


def test_an_interrupted_run_keeps_what_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CLIPS_A_SAVE", 2)
    cache, compute = caches(tmp_path), Computing()

    def interrupted(ids: Sequence[str], modalities: Sequence[Modality]) -> ClipFeatures:
        if len(compute.asked) == 2:
            raise KeyboardInterrupt
        return compute(ids, modalities)

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
    clip_features_of(caches(tmp_path / "f"), Computing(), ["c1"], keep=False)
    assert not (tmp_path / "f").exists()
