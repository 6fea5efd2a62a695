"""One trial: its stages, the clips of each, and a warning of overfitted streams."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from flowkit.store.read.store import Store
from gating.data.partition import TrialData, plan_trial, split_of_all
from gating.distributed import ProcessGroup
from gating.evaluation.results import read_comparison
from gating.evaluation.scores import load_scores
from gating.events import Event
from gating.fusions.base import both_zero
from gating.load import choose_fusion, load_networks
from gating.run_folder import read_trial, scores_path
from gating.train_config import GateData, TrainConfig
from gating.trial import Trial, TrialOptions
from tests.make.labelled import five_folds, quick


def planned(store: Store, config: TrainConfig) -> TrialData:
    return plan_trial(store, five_folds(store), config, fold="0")


def trial(data: TrialData, config: TrainConfig, folder: Path, events: list[Event]) -> Trial:
    group = ProcessGroup(torch.device("cpu"))
    return Trial(data, config, TrialOptions(folder=folder, process_group=group, on_event=events.append))


def test_out_of_fold_scores_are_of_streams_that_did_not_see_the_clip(
    labelled_store: Store, tmp_path: Path
) -> None:
    config = quick(gate_data="out-of-fold", stream_folds=2)
    events: list[Event] = []
    trial(planned(labelled_store, config), config, tmp_path, events).run(kind="fold")
    stages = [event["stage"] for event in events if event["event"] == "finished"]
    assert stages == ["rgb", "flow", "fold0/flow", "fold0/rgb", "fold1/flow", "fold1/rgb", "gate"]
    fit = load_scores(scores_path(tmp_path, "fit"))
    assert fit.flow_features is None  # of other networks than the final ones
    record = json.loads((tmp_path / "trial.json").read_text())
    assert record["data"]["clips"]["learn"].startswith(f"{len(fit.ids)} clips")
    final = load_scores(scores_path(tmp_path, "validation"))
    assert set(final.ids).isdisjoint(fit.ids)


def test_where_every_clip_trains_the_last_epochs_are_taken_and_gates_are_cross_fitted(
    labelled_store: Store, tmp_path: Path
) -> None:
    config = quick(gate_data="out-of-fold", stream_folds=2, all_clips=True)
    split = split_of_all(labelled_store, five_folds(labelled_store).groups)
    data = plan_trial(labelled_store, split, config)
    assert (sorted(data.train), data.validation, data.test) == (sorted(labelled_store), (), ())
    events: list[Event] = []
    found = trial(data, config, tmp_path, events).run(kind="all")
    finished = {event["stage"]: event["best_epoch"] for event in events if event["event"] == "finished"}
    pairs = [f"fold{fold}/{kind}" for fold in range(2) for kind in ("flow", "rgb", "gate")]
    assert finished == dict.fromkeys(["rgb", "flow", "gate", *pairs], 1)
    assert "features" not in found.fused
    # Rows of the gate's weights and scores are of one clip, by streams that did not learn from it.
    gates = found.scores.gates
    assert gates is not None
    weights = np.where(both_zero(gates)[:, None], config.net.fixed, gates)
    fused = weights[:, :1] * found.scores.flow + weights[:, 1:] * found.scores.rgb
    assert np.allclose(fused, found.fused["gating"], atol=1e-5)  # of float32


@pytest.mark.parametrize("gate_data", ["same", "out-of-fold"])
def test_one_stream_alone_has_neither_gate_nor_fusion(
    labelled_store: Store, tmp_path: Path, gate_data: GateData
) -> None:
    config = quick(gate_data=gate_data, modalities=("flow",), fusion="flow")
    events: list[Event] = []
    found = trial(planned(labelled_store, config), config, tmp_path, events).run(kind="fold")
    assert [event["stage"] for event in events if event["event"] == "finished"] == ["flow"]
    assert list(found.fused) == list(found.validation) == ["flow"]
    kept = read_comparison(tmp_path)
    assert np.array_equal(kept.fused["flow"], found.scores.flow)
    assert (kept.chosen(), kept.search_fraction, kept.scores.lone_stream) == ("flow", 1.0, "flow")
    networks = load_networks(tmp_path).networks
    assert list(networks.streams) == ["flow"]
    assert choose_fusion(read_trial(tmp_path)).name == "flow"


def test_equal_trials_are_equal(labelled_store: Store, tmp_path: Path) -> None:
    config = quick(gate_data="holdout", rgb_dropout=0.5)
    for name in ("one", "other"):
        trial(planned(labelled_store, config), config, tmp_path / name, []).run(kind="fold")
    one, other = (load_scores(scores_path(tmp_path / name, "test")) for name in ("one", "other"))
    assert one.gated is not None
    assert other.gated is not None
    assert np.array_equal(one.gated, other.gated)


def test_the_same_clips_for_an_overfitted_gate_are_warned_of(
    labelled_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gating.trial.OVERFITTED", -1.1)
    config = quick(gate_data="same")
    with pytest.warns(RuntimeWarning) as warned:
        trial(planned(labelled_store, config), config, tmp_path, []).trained()
    messages = [str(one.message) for one in warned]
    assert [text.split(" stream has")[0] for text in messages] == ["the rgb", "the flow"]
    assert all("--gate-data out-of-fold" in text for text in messages)


def test_streams_do_not_depend_on_the_gates_clips(labelled_store: Store, tmp_path: Path) -> None:
    """A gate on other clips finds the streams of an earlier run finished."""
    config = quick(gate_data="holdout")
    first = planned(labelled_store, config)
    events: list[Event] = []
    trial(first, config, tmp_path, events).trained()
    other = dataclasses.replace(first, gate=first.gate[1:])
    (tmp_path / "gate" / "best.pt").unlink()
    events.clear()
    trial(other, config, tmp_path, events).trained()
    assert [event["stage"] for event in events if event["event"] == "skipped"] == ["rgb", "flow"]
