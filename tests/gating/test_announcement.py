"""The lines that a run prints of a trial before it trains it."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")

import torch

from flowkit.store.read.store import Store
from gating import announcement
from gating.announcement import trial_lines
from gating.config import LoaderConfig
from gating.data.partition import TrialData, plan_trial
from gating.distributed import ProcessGroup
from gating.train_config import TrainConfig, train_preset
from tests.make.labelled import five_folds, quick


def announced(data: TrialData, config: TrainConfig, micro_batch: int = 2) -> list[str]:
    group = ProcessGroup(torch.device("cpu"))
    return trial_lines(data, config, process_group=group, loader=LoaderConfig(micro_batch=micro_batch))


@pytest.fixture
def config() -> TrainConfig:
    return quick(gate_data="holdout")


@pytest.fixture
def data(labelled_store: Store, config: TrainConfig) -> TrialData:
    return plan_trial(labelled_store, five_folds(labelled_store), config, fold="0")


def test_the_lines_have_flow_batches_parts_and_balance(data: TrialData, config: TrainConfig) -> None:
    lines = announced(data, config)
    assert lines[0].startswith("flow: TV-L1 preset ")
    assert "WARNING" not in lines[0]
    batch = config.schedule("rgb").batch
    assert f"effective batch {batch} clips = 1 processes x {-(-batch // 2)} x 2" in lines[1]
    assert [line.split(":")[0] for line in lines[1:4]] == ["rgb", "flow", "gate"]
    assert f"the streams learn from {len(data.train)} clips" in lines[4]
    assert f"the gate from {len(data.gate)} kept from the streams" in lines[4]
    assert lines[5] == "class: clips to learn / gate / validation / test"
    assert [line.split(":")[0].strip() for line in lines[6:]] == list(data.classes)


def test_heads_have_no_epochs_in_the_lines(labelled_store: Store) -> None:
    config = train_preset("frozen")
    data = plan_trial(labelled_store, five_folds(labelled_store), config, fold="0")
    lines = announced(data, config)
    assert "linear heads on frozen efficientnet_lite0, 12 segments a clip" in lines[1]
    assert lines[2].startswith("gate: ")
    assert "pick the best epochs" not in lines[3]


def test_a_bound_that_is_not_the_stores_is_a_warning(
    data: TrialData, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bounded:
        name, bounded, bound_px = "jpeg", True, 7.0

    monkeypatch.setattr(type(data.store.options), "codec", Bounded())
    line = announced(data, config)[0]
    assert "clipped to +-7 px when stored" in line
    assert "WARNING: the bounds differ; --bound 7 fits this store" in line


def test_weights_of_a_run_are_named_with_what_they_learned_from(
    data: TrialData, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcement, "stream_origin", lambda weights: f"clips of {weights}")
    changed = dataclasses.replace(config, rgb_weights="runs/a/best.pt")
    (line,) = [line for line in announced(data, changed) if "starts from" in line]
    assert line.startswith(
        "rgb: starts from runs/a/best.pt, which learned from clips of runs/a/best.pt (WARNING"
    )


def test_many_classes_are_summed(
    data: TrialData, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcement, "_MOST_CLASSES", 1)
    lines = announced(data, config)
    learn = [row[1] for row in data.balance()]
    assert lines[-1] == f"  ... {len(learn)} classes, {min(learn)} to {max(learn)} clips to learn from each"
