"""A small labelled store, a split of it and a run that takes a second: for the trainer's tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flowkit.datasets import Split, groups_by_pattern, k_fold
from flowkit.store.read.store import Store
from flowkit.synth import SynthConfig, make_dataset
from gating.train_config import TrainConfig, train_preset
from tests.make.small import run

CLASSES = 2
CLIPS = 10


def make_store(folder: Path) -> Path:
    """Twenty clips of two classes in five groups, 64 x 64 px, 8 frames."""
    config = SynthConfig(classes=CLASSES, clips=CLIPS, frames=8, codec="mjpeg", seed=5)
    make_dataset(folder / "videos", config)
    run(folder / "videos", folder / "clips.h5")
    return folder / "clips.h5"


def five_folds(store: Store) -> Split:
    """The groups of the made clips as folds."""
    labels = dict(zip(store, store.column("label"), strict=True))
    return k_fold(labels, 5, groups=groups_by_pattern(labels, r"_g(\d+)_"))


def quick(**changes: object) -> TrainConfig:
    """Two epochs a stage in steps of four clips, two segments of two fields."""
    tiny = train_preset("tiny")
    stage = dataclasses.replace(tiny.rgb, epochs=2, batch=4, warmup_epochs=0.0, segments=None)
    config = dataclasses.replace(
        tiny,
        rgb=stage,
        flow=stage,
        gate=stage,
        segments=2,
        stack=2,
        augment=dataclasses.replace(tiny.augment, size=32),
        gate_data="same",
        validation_share=0.25,
        test_segments=2,
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]
