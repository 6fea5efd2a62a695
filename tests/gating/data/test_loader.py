"""ClipLoader: the same whatever the processes, workers and micro-batches, and clips of several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import flowkit
from flowkit.store.read.store import Store
from gating.config import LoaderConfig
from gating.data.loader import ClipLoader, InputBatch
from gating.data.partition import TrialData, plan_trial
from gating.distributed import ProcessGroup
from gating.models.backbones.backbone import IMAGENET_INPUT
from tests.make import clips, small
from tests.make.labelled import five_folds, quick

CPU = torch.device("cpu")
CONFIG = quick()


def batches(
    data: TrialData, *, rank: int = 0, world: int = 1, micro: int = 4, workers: int = 0
) -> ClipLoader:
    loader_config = LoaderConfig(micro_batch=micro, workers=workers)
    return ClipLoader(
        data,
        CONFIG,
        IMAGENET_INPUT,
        process_group=ProcessGroup(CPU, rank, world),
        loader_config=loader_config,
    )


def trained_on(source: ClipLoader, *, position: int = 0) -> dict[str, InputBatch]:
    """Each clip of an epoch as it was given, by id."""
    steps = source.training(source.data.train, CONFIG.augment, batch=4, epoch=1, position=position)
    return {
        video_id: InputBatch(
            ids=[video_id],
            labels=batch.labels[k : k + 1],
            flow=batch.of("flow")[k : k + 1],
            rgb=batch.of("rgb")[k : k + 1],
        )
        for step in steps
        for batch in step.batches
        for k, video_id in enumerate(batch.ids)
    }


def same(one: InputBatch, other: InputBatch) -> bool:
    return torch.equal(one.of("flow"), other.of("flow")) and torch.equal(one.of("rgb"), other.of("rgb"))


@pytest.fixture
def data(labelled_store: Store) -> TrialData:
    return plan_trial(labelled_store, five_folds(labelled_store), CONFIG, fold="0")


@pytest.mark.parametrize("options", [{"micro": 3}, {"micro": 1}, {"workers": 2}])
def test_micro_batches_and_workers_change_nothing(data: TrialData, options: dict[str, int]) -> None:
    whole, other = trained_on(batches(data)), trained_on(batches(data, **options))
    assert list(whole) == list(other)
    assert all(same(whole[k], other[k]) for k in whole)


def test_two_processes_divide_the_clips_of_one(data: TrialData) -> None:
    whole = trained_on(batches(data))
    shared = [trained_on(batches(data, rank=rank, world=2)) for rank in range(2)]
    assert not shared[0].keys() & shared[1].keys()
    both = shared[0] | shared[1]
    assert both.keys() == whole.keys()
    assert all(same(whole[k], both[k]) for k in whole)


def test_an_epoch_goes_on_where_it_was_left(data: TrialData) -> None:
    whole, rest = trained_on(batches(data)), trained_on(batches(data), position=8)
    assert list(rest) == list(whole)[8:]
    assert all(same(whole[k], rest[k]) for k in rest)


def test_epochs_differ_in_order_and_crops(data: TrialData) -> None:
    source = batches(data)
    first, second = (
        [
            k
            for step in source.training(data.train, CONFIG.augment, batch=4, epoch=epoch)
            for b in step.batches
            for k in b.ids
        ]
        for epoch in (0, 1)
    )
    assert sorted(first) == sorted(second) == sorted(data.train)
    assert first != second


def test_steps_are_counted_right(data: TrialData) -> None:
    source = batches(data)
    steps = list(source.training(data.train, CONFIG.augment, batch=5, epoch=0))
    assert len(steps) == source.steps_per_epoch(data.train, 5)
    assert [step.number for step in steps] == list(range(len(steps)))
    assert steps[-1].position == len(data.train) == sum(step.clips for step in steps)


def test_testing_gives_every_clip_once_under_each_crop(data: TrialData) -> None:
    seen = [several for several in batches(data).testing(data.test, segments=3, crops=10)]
    assert all(len(several) == 10 for several in seen)
    assert [k for several in seen for k in several[0].ids] == list(data.test)
    several = seen[0]
    # The last five crops are the first five mirrored: rgb is the mirror image exactly.
    assert torch.equal(several[0].of("rgb").flip(-1), several[5].of("rgb"))


def test_one_modality_is_given_alone(data: TrialData) -> None:
    (step, *_) = batches(data).training(data.train, CONFIG.augment, ("flow",), batch=4, epoch=0)
    (batch,) = step.batches
    assert batch.rgb is None
    assert batch.of("flow").shape == (4, 2, 4, 32, 32)


def test_labels_count_the_classes_of_the_split(data: TrialData) -> None:
    for video_id, batch in trained_on(batches(data)).items():
        assert int(batch.labels) == data.labels[video_id]
        assert video_id.startswith(data.classes[int(batch.labels)])


def test_clips_of_several_sizes_make_one_batch(tmp_path: Path) -> None:
    for name, size in (
        ("a/one_g1", (48, 64)),
        ("a/two_g2", (64, 48)),
        ("b/one_g1", (48, 64)),
        ("b/two_g2", (48, 64)),
    ):
        path = tmp_path / "videos" / f"{name}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = np.random.default_rng(len(name)).integers(0, 255, (5, *size, 3), np.uint8)
        clips.lossless_mkv(path, images)
    small.run(tmp_path / "videos", tmp_path / "out.h5")
    with flowkit.open(tmp_path / "out.h5") as store:
        ids = tuple(sorted(store))
        data = TrialData(
            store=store,
            split="s",
            part="test",
            classes=("a", "b"),
            labels={k: "ab".index(k[0]) for k in ids},
            groups={k: k for k in ids},
            train=ids,
            gate=ids,
            validation=ids,
            test=ids,
        )
        whole, alone = trained_on(batches(data)), trained_on(batches(data, micro=1))
        tested = [b for several in batches(data, micro=8).testing(ids, segments=2) for b in several]
    assert all(same(whole[k], alone[k]) for k in ids)
    assert [k for b in tested for k in b.ids] == list(ids)
