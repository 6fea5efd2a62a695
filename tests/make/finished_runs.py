"""A run that was really trained, in a few seconds, for the tests of what is done with runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

import flowkit
from gating.config import LoaderConfig
from gating.run import RunOptions, train
from gating.run_folder import COMPARISON
from gating.train_config import TrainConfig
from tests.make.labelled import five_folds, quick


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """A run's folder, its store, and the videos that the store was made from."""

    out: Path
    store: Path
    videos: Path

    @property
    def trial(self) -> Path:
        """Folder of its first trial."""
        return self.out / "5-fold-0" / "seed0"


def train_run(labelled: Path, folder: Path, *, folds: tuple[str, ...] = ("0",)) -> FinishedRun:
    """Train one epoch a stage on a copy of the labelled store, with out-of-fold streams of two folds."""
    torch.set_num_threads(1)
    store = folder / "clips.h5"
    shutil.copy(labelled, store)
    out = folder / "run"
    options = RunOptions(
        out=out, folds=folds, device="cpu", loader=LoaderConfig(), on_event=lambda event: None
    )
    with flowkit.open(store) as opened:
        train(opened, [five_folds(opened)], one_epoch(), options)
    return FinishedRun(out=out, store=store, videos=labelled.parent / "videos")


def one_epoch() -> TrainConfig:
    """Gate data out-of-fold, so that there are out-of-fold streams to score the fit clips."""
    stage = dataclasses.replace(quick().rgb, epochs=1)
    return quick(rgb=stage, flow=stage, gate=stage, gate_data="out-of-fold", stream_folds=2)


def prefer(trial: Path, *, gate: float, search: float, **changes: Any) -> None:
    """Give a trial other accuracies on the validation clips."""
    path = trial / COMPARISON
    numbers = json.loads(path.read_text())
    path.write_text(json.dumps({**numbers, "validation": {"gating": gate, "search": search}, **changes}))
