"""A trial of heads on frozen backbones: what it writes, keeps and predicts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import flowkit
from flowkit.datasets import Split, groups_by_pattern
from flowkit.errors import InvalidParameterError
from gating.config import StreamConfig
from gating.data.partition import split_of_all
from gating.errors import CheckpointError
from gating.evaluation.results import read_comparison
from gating.evaluation.scores import load_scores
from gating.frozen import trial as frozen_trial
from gating.fusing.inputs import StreamArrays
from gating.fusing.run import FuseOptions, fuse
from gating.fusing.trial import FuseConfig
from gating.load import load_networks
from gating.models import streams
from gating.prediction import Prediction, PredictOptions, predict
from gating.report.page import write_report
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


def options(out: Path) -> RunOptions:
    return RunOptions(out=out, folds=("0",), device="cpu")


@pytest.fixture(autouse=True, scope="module")
def random_backbone() -> Iterator[None]:
    """The start of a backbone without weights is random; here it is one."""
    build = streams.build_stream

    def seeded(config: StreamConfig) -> streams.Stream:
        torch.manual_seed(0)
        return build(config)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("gating.frozen.trial", "gating.load"):
            patch.setattr(f"{module}.build_stream", seeded)
        yield


@pytest.fixture(scope="module")
def first(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory, random_backbone: None) -> Path:
    """A folder with a store, its features and a run of it."""
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copy2(labelled_path, folder / "clips.h5")
    with flowkit.open(folder / "clips.h5") as store:
        results = train(store, [five_folds(store)], config(), options(folder / "run"))
    assert results is not None
    assert {"rgb", "flow", "search", "features", "gating", "chosen"} <= results.fusions.keys()
    return folder


def trial_of(folder: Path) -> Path:
    return next((folder / "run").glob("*/seed0"))


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    """A copy, with the store's times, by which its features are known."""
    return Path(shutil.copytree(first, tmp_path / "copy"))


def test_a_second_run_computes_no_features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(file.name for file in (folder / "clips.h5.features").iterdir())
    assert [one.split("-")[0] for one in names] == ["flow", "rgb"]
    monkeypatch.setattr(frozen_trial, "computed_features", None)
    before = {
        part: load_scores(scores_path(trial_of(folder), part)) for part in ("test", "validation", "fit")
    }
    with flowkit.open(folder / "clips.h5") as store:
        train(store, [five_folds(store)], config(), options(folder / "run"))
    for part, one in before.items():
        other = load_scores(scores_path(trial_of(folder), part))
        assert one.gated is not None
        assert other.gated is not None
        assert np.array_equal(one.flow, other.flow)
        assert np.array_equal(one.gated, other.gated)


def test_features_of_another_folder_are_read_and_one_that_cannot_be_written_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = (folder / "clips.h5.features").rename(tmp_path / "kept")
    monkeypatch.setattr(frozen_trial, "computed_features", None)
    with flowkit.open(folder / "clips.h5") as store:
        train(store, [five_folds(store)], config(), dataclasses.replace(options(folder / "run"), cache=cache))
        (folder / "file").touch()
        blocked = dataclasses.replace(options(folder / "other"), cache=folder / "file" / "cache")
        with pytest.raises(InvalidParameterError, match="cache must be a folder"):
            train(store, [five_folds(store)], config(), blocked)
    assert not (folder / "clips.h5.features").exists()


def test_scores_to_fit_on_are_of_heads_that_did_not_see_the_clip(first: Path) -> None:
    with flowkit.open(first / "clips.h5") as store:
        ids = set(store)
    fit, test = (load_scores(scores_path(trial_of(first), part)) for part in ("fit", "test"))
    assert set(fit.ids) | set(test.ids) == ids  # no clip is kept for a validation part
    assert set(fit.ids).isdisjoint(test.ids)
    assert sorted(one.name for one in trial_of(first).glob("fold*/*")) == ["flow", "flow", "rgb", "rgb"]


def test_predictions_of_a_store_are_those_of_the_test(first: Path) -> None:
    scores = load_scores(scores_path(trial_of(first), "test"))
    chosen = read_comparison(trial_of(first)).chosen()
    found = predict([first / "clips.h5"], first / "run", PredictOptions(ids=scores.ids, device="cpu"))
    predictions = {one.video_id: one for one in found if isinstance(one, Prediction)}
    assert predictions.keys() == set(scores.ids)
    fused = np.load(trial_of(first) / "fused.npz")[chosen]
    for video_id, row in zip(scores.ids, fused, strict=True):
        assert predictions[video_id].classes[0] == scores.classes[int(np.argmax(row))]


def test_scoring_anew_gives_the_same(folder: Path) -> None:
    before = load_scores(scores_path(trial_of(folder), "test"))
    with flowkit.open(folder / "clips.h5") as store:
        evaluate(folder / "run", store, EvalOptions(segments=25, device="cpu"))
    after = load_scores(scores_path(trial_of(folder), "test"))
    assert after.segments == 3
    assert np.array_equal(before.flow, after.flow)
    assert before.gated is not None
    assert after.gated is not None
    assert np.array_equal(before.gated, after.gated)


def test_a_loaded_gate_is_scaled_by_the_pair_that_it_was_fitted_at(folder: Path) -> None:
    own, run = config(net=dataclasses.replace(config().net, activation="softmax")), folder / "softmax"
    with flowkit.open(folder / "clips.h5") as store:
        train(store, [five_folds(store)], own, options(run))
        (trial,) = run.glob("*/seed0")
        gates = load_scores(scores_path(trial, "test")).gates
        gate = load_networks(trial).networks.gate
        assert gates is not None
        assert gate is not None
        assert gate.config.fixed != own.net.fixed
        np.testing.assert_allclose(gates.sum(axis=1), sum(gate.config.fixed), rtol=1e-5)
        fused = np.load(trial / "fused.npz")["gating"]
        evaluate(run, store, EvalOptions(device="cpu"))
        np.testing.assert_allclose(np.load(trial / "fused.npz")["gating"], fused, rtol=1e-3, atol=1e-4)
        train(store, [five_folds(store)], own, options(run))  # the kept gate is still of this configuration


@pytest.fixture(scope="module")
def everything(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder with a run `all` that trained on every clip."""
    folder = Path(shutil.copytree(first, tmp_path_factory.mktemp("all") / "copy"))
    with flowkit.open(folder / "clips.h5") as store:
        split = split_of_all(store, groups_by_pattern(store, r"_g(\d+)_"))
        results = train(store, [split], config(all_clips=True), RunOptions(out=folder / "all", device="cpu"))
    assert results is not None
    assert results.is_out_of_fold
    assert results.to_json()["scored"] == "out-of-fold"
    return folder


def test_where_every_clip_trains_the_table_is_of_out_of_fold_scores(everything: Path) -> None:
    trial = everything / "all" / "all" / "seed0"
    comparison = read_comparison(trial)
    with flowkit.open(everything / "clips.h5") as store:
        assert sorted(comparison.scores.ids) == sorted(store)
    assert comparison.is_out_of_fold
    assert {"features", "gating", "search"} <= comparison.fused.keys()
    assert not (everything / "clips.h5.splits" / "all.csv").exists()  # no choice of later commands


def test_a_run_of_every_clip_is_scored_anew_and_predicts_and_reports(everything: Path) -> None:
    before = read_comparison(everything / "all" / "all" / "seed0")
    with flowkit.open(everything / "clips.h5") as store:
        wanted = tuple(store)[:2]
        evaluate(everything / "all", store, EvalOptions(segments=25, device="cpu"))
    after = read_comparison(everything / "all" / "all" / "seed0")
    assert np.array_equal(before.fused["gating"], after.fused["gating"])
    options = PredictOptions(ids=wanted, device="cpu")
    found = list(predict([everything / "clips.h5"], everything / "all", options))
    assert [one.video_id for one in found if isinstance(one, Prediction)] == list(wanted)
    page = write_report(everything / "all", clips=0).read_text()
    assert "There is no test" in page
    assert "20 training clips" in page


def test_one_stream_alone_reads_the_features_of_both_and_has_its_own_row_and_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = config(modalities=("rgb",), fusion="rgb")
    with flowkit.open(folder / "clips.h5") as store:
        anew = dataclasses.replace(options(folder / "anew"), cache=folder / "cache")
        train(store, [five_folds(store)], own, anew)
        monkeypatch.setattr(frozen_trial, "computed_features", None)
        results = train(store, [five_folds(store)], own, options(folder / "rgb"))
        evaluate(folder / "rgb", store, EvalOptions(segments=25, device="cpu"))
    assert results is not None
    assert (list(results.fusions), results.chosen) == (["rgb", "chosen"], "rgb")
    scores = load_scores(scores_path(next((folder / "rgb").glob("*/seed0")), "test"))
    computed = load_scores(scores_path(next((folder / "anew").glob("*/seed0")), "test"))
    np.testing.assert_allclose(computed.rgb, scores.rgb, rtol=1e-4, atol=1e-5)
    found = predict([folder / "clips.h5"], folder / "rgb", PredictOptions(ids=scores.ids[:2], device="cpu"))
    names = [one.classes[0] for one in found if isinstance(one, Prediction)]
    assert names == [scores.classes[k] for k in scores.rgb[:2].argmax(axis=1)]
    assert "rgb stream alone" in write_report(folder / "rgb").read_text()


def test_a_folder_of_other_choices_is_refused_and_kept(first: Path) -> None:
    kept = (trial_of(first) / "flow" / "best.pt").read_bytes()
    other = config(segments=2, test_segments=2)
    with (
        flowkit.open(first / "clips.h5") as store,
        pytest.raises(CheckpointError, match=r"seed0.*made with other settings.*test_segments is 3"),
    ):
        train(store, [five_folds(store)], other, options(first / "run"))
    assert (trial_of(first) / "flow" / "best.pt").read_bytes() == kept


def kept_stream(file: Path) -> StreamArrays:
    with h5py.File(file) as cache:
        ids = tuple(cache["ids"].asstr()[:])
        return StreamArrays(
            name=file.name.split("-")[0], ids=ids, features=cache["features"][:], maps=cache["maps"][:]
        )


def test_fused_features_of_the_cache_give_the_scores_of_the_preset(first: Path, tmp_path: Path) -> None:
    flow, rgb = (kept_stream(file) for file in sorted((first / "clips.h5.features").iterdir()))
    with flowkit.open(first / "clips.h5") as store:
        labels = dict(zip(store, store.column("label"), strict=True))
        folds = five_folds(store)
    parts = {k: "test" if fold == "0" else "train" for k, fold in folds.parts.items()}
    own = config()
    fuse(
        rgb,
        flow,
        labels,
        splits=[Split(name="first", kind="subset", parts=parts, groups=folds.groups)],
        config=FuseConfig(net=own.net, gate=own.gate, stream_folds=own.stream_folds),
        options=FuseOptions(out=tmp_path, device="cpu"),
    )
    for part in ("test", "fit"):
        one = load_scores(scores_path(trial_of(first), part))
        other = load_scores(scores_path(tmp_path / "first/seed0", part))
        assert one.ids == other.ids
        for name in ("flow", "rgb", "flow_features", "gates", "gated"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), (part, name)
