"""A trial of heads on frozen backbones: what it writes, keeps and predicts."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import flowkit
from flowkit.store.read.store import Store
from gating.evaluation.scores import load_scores
from gating.frozen import trial as frozen_trial
from gating.prediction import Prediction, PredictOptions, predict
from gating.rescoring import EvalOptions, evaluate
from gating.run import RunOptions, train
from gating.run_folder import scores_path
from gating.train_config import TrainConfig, train_preset
from tests.make.labelled import five_folds


def config(**changes: object) -> TrainConfig:
    """A random backbone: its features tell little, and all else is as with ImageNet's."""
    frozen = train_preset("frozen")
    made = dataclasses.replace(
        frozen,
        backbone="small",
        rgb_weights=None,
        flow_weights=None,
        segments=3,
        test_segments=3,
        stream_folds=2,
        augment=dataclasses.replace(frozen.augment, size=32),
        gate=dataclasses.replace(frozen.gate, epochs=2, warmup_epochs=0.0),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(labelled_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(labelled_path, tmp_path / "clips.h5"))


def options(out: Path) -> RunOptions:
    return RunOptions(out=out, folds=("0",), device="cpu")


def trained(store: Store, out: Path, **changes: object) -> Path:
    results = train(store, [five_folds(store)], config(**changes), options(out))
    assert results is not None
    assert {"rgb", "flow", "search", "features", config(**changes).fusion} <= results.fusions.keys()
    return next(out.glob("*/seed0"))


@pytest.fixture(autouse=True)
def random_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a backbone without weights is random; here it is one."""
    import torch

    from gating.models import streams

    build = streams.build_stream

    def seeded(config: object) -> object:
        torch.manual_seed(0)
        return build(config)  # type: ignore[arg-type]

    for module in ("gating.frozen.trial", "gating.load"):
        monkeypatch.setattr(f"{module}.build_stream", seeded)


def test_a_second_run_computes_no_features(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flowkit.open(path) as store:
        one = trained(store, tmp_path / "one")
        assert [file.suffix for file in (tmp_path / "clips.h5.features").iterdir()] == [".h5"]
        monkeypatch.setattr(frozen_trial, "computed_features", None)
        other = trained(store, tmp_path / "other")
    for part in ("test", "validation", "fit"):
        a, b = (load_scores(scores_path(folder, part)) for folder in (one, other))
        assert a.gated is not None
        assert b.gated is not None
        assert np.array_equal(a.flow, b.flow)
        assert np.array_equal(a.gated, b.gated)


def test_scores_to_fit_on_are_of_heads_that_did_not_see_the_clip(path: Path, tmp_path: Path) -> None:
    with flowkit.open(path) as store:
        folder = trained(store, tmp_path / "run")
        labels = dict(zip(store, store.column("label"), strict=True))
    fit, test = (load_scores(scores_path(folder, part)) for part in ("fit", "test"))
    assert set(fit.ids) | set(test.ids) == set(labels)  # no clip is kept for a validation part
    assert set(fit.ids).isdisjoint(test.ids)
    assert sorted(one.name for one in folder.glob("fold*/*")) == ["flow", "flow", "rgb", "rgb"]


def test_predictions_of_a_store_are_those_of_the_test(path: Path, tmp_path: Path) -> None:
    with flowkit.open(path) as store:
        folder = trained(store, tmp_path / "run", fusion="search")
    scores = load_scores(scores_path(folder, "test"))
    found = predict([path], folder, PredictOptions(ids=scores.ids, device="cpu"))
    predictions = {one.video_id: one for one in found if isinstance(one, Prediction)}
    assert predictions.keys() == set(scores.ids)
    fused = np.load(folder / "fused.npz")["search"]
    for video_id, row in zip(scores.ids, fused, strict=True):
        assert predictions[video_id].classes[0] == scores.classes[int(np.argmax(row))]


def test_scoring_anew_gives_the_same(path: Path, tmp_path: Path) -> None:
    with flowkit.open(path) as store:
        folder = trained(store, tmp_path / "run")
        before = load_scores(scores_path(folder, "test"))
        evaluate(tmp_path / "run", store, EvalOptions(segments=25, device="cpu"))
    after = load_scores(scores_path(folder, "test"))
    assert after.segments == 3
    assert np.array_equal(before.flow, after.flow)
    assert before.gated is not None
    assert after.gated is not None
    assert np.array_equal(before.gated, after.gated)
