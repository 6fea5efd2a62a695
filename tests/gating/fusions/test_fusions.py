"""Every fusion: its scores, its learning, and its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InvalidParameterError
from gating.fusions import FUSIONS, FusionData, Scores, build_fusion
from gating.fusions.base import Sums, softmax
from gating.fusions.fixed import Search
from gating.fusions.learned import LearnedWeights
from gating.fusions.logistic import Logistic, fold_numbers
from gating.fusions.score_gate import ScoreGate
from gating.statistics import top1

CLASSES = 4
LEARNED = ("global", "per-class", "stack", "score-gate", "features", "gmu")


def clips(count: int = 240, *, seed: int = 0) -> FusionData:
    """Two noisy streams; flow is good at classes 0 and 1, rgb at 2 and 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    truth = np.eye(CLASSES)[labels]
    flow_is_good = (labels < 2)[:, None]
    flow = truth * np.where(flow_is_good, 3.0, 0.5) + rng.normal(size=(count, CLASSES))
    rgb = truth * np.where(flow_is_good, 0.5, 3.0) + rng.normal(size=(count, CLASSES))
    gates = rng.uniform(0.1, 2, size=(count, 2))
    project = np.random.default_rng(99).normal(size=(CLASSES, 6))
    return FusionData(
        flow=flow,
        rgb=rgb,
        labels=labels,
        flow_features=flow @ project,
        rgb_features=rgb @ project,
        gates=gates,
        gated=gates[:, :1] * flow + gates[:, 1:] * rgb,
        groups=np.arange(count) // 4,
    )


def fuse_all(
    fit_on: FusionData, apply_to: FusionData, *, seed: int, names: Iterable[str] | None = None
) -> dict[str, Scores]:
    """Fit each named fusion on held-out clips and return its scores of others; None is all that can be."""
    if names is None:
        names = [name for name in FUSIONS if apply_to.offers(build_fusion(name).needs)]
    fusions = {name: build_fusion(name) for name in names}
    for fusion in fusions.values():
        fusion.fit(fit_on, seed=seed)
    return {name: fusion.apply(apply_to) for name, fusion in fusions.items()}


def accuracy(name: str, fit_on: FusionData, apply_to: FusionData, *, seed: int = 0) -> float:
    return top1(fuse_all(fit_on, apply_to, seed=seed, names=[name])[name], apply_to.labels)


def test_all_of_the_list_give_scores_of_every_clip() -> None:
    fit_on, test = clips(60), clips(17, seed=1)
    scores = fuse_all(fit_on, test, seed=0)
    assert list(scores) == [
        *("rgb", "flow", "average", "average-probabilities", "weighted", "weighted-probabilities"),
        *("search", "search-probabilities", "global", "per-class", "stack", "score-gate", "features"),
        *("gmu", "oracle", "gating"),
    ]
    for name, values in scores.items():
        assert values.shape == (17, CLASSES), name
        assert values.dtype == np.float64, name
        assert np.isfinite(values).all(), name


def test_fixed_weights_are_what_their_names_say() -> None:
    data = clips(10)
    scores = fuse_all(data, data, seed=0, names=[name for name in FUSIONS if name not in LEARNED])
    np.testing.assert_array_equal(scores["rgb"], data.rgb)
    np.testing.assert_array_equal(scores["flow"], data.flow)
    np.testing.assert_array_equal(scores["average"], data.flow + data.rgb)
    np.testing.assert_array_equal(scores["weighted"], 1.5 * data.flow + data.rgb)
    np.testing.assert_array_equal(scores["average-probabilities"], softmax(data.flow) + softmax(data.rgb))
    np.testing.assert_array_equal(
        scores["weighted-probabilities"], 1.5 * softmax(data.flow) + softmax(data.rgb)
    )


def test_without_a_gate_or_features_their_fusions_are_left_out() -> None:
    bare = dataclasses.replace(clips(20), gates=None, gated=None, flow_features=None, rgb_features=None)
    assert set(FUSIONS) - set(fuse_all(bare, bare, seed=0)) == {"gating", "features", "gmu"}


def test_softmax_holds_for_large_scores() -> None:
    assert softmax(np.array([[1e4, 0.0], [0.0, 0.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_the_oracle_is_right_where_either_stream_is() -> None:
    data = clips(200)
    either = (data.flow.argmax(1) == data.labels) | (data.rgb.argmax(1) == data.labels)
    assert accuracy("oracle", data, data) == either.mean()
    assert either.mean() > max(accuracy("rgb", data, data), accuracy("flow", data, data))


def test_search_finds_the_better_stream_and_the_middle_of_ties() -> None:
    data = clips(200)
    useless = dataclasses.replace(data, flow=np.random.default_rng(5).normal(size=data.flow.shape) * 10)
    search = Search()
    search.fit(useless, seed=0)
    assert search.fraction is not None
    assert search.fraction < 0.1
    same = dataclasses.replace(data, rgb=data.flow)
    search.fit(same, seed=0)
    assert search.fraction == 0.5


@pytest.mark.parametrize("sums", ["scores", "probabilities"])
def test_search_is_at_least_as_good_as_any_fixed_weights_on_its_own_data(sums: Sums) -> None:
    data = clips(100)
    search = Search(sums=sums)
    search.fit(data, seed=0)
    others = ("rgb", "flow", "average-probabilities" if sums == "probabilities" else "average")
    assert top1(search.apply(data), data.labels) >= max(accuracy(name, data, data) for name in others)


def test_global_weights_lean_to_the_better_stream_and_scale_the_scores() -> None:
    data = clips(240)
    noise = dataclasses.replace(data, rgb=np.random.default_rng(5).normal(size=data.rgb.shape))
    fusion = LearnedWeights(per_class=False)
    fusion.fit(noise, seed=0)
    assert fusion.weights is not None
    flow, rgb = fusion.weights.flatten().tolist()
    assert flow > 5 * abs(rgb)


def test_per_class_weights_learn_which_stream_knows_which_class() -> None:
    fit_on, test = clips(400), clips(400, seed=1)
    fusion = LearnedWeights(per_class=True)
    fusion.fit(fit_on, seed=0)
    assert fusion.weights is not None
    leans_to_flow = fusion.weights[0] > fusion.weights[1]
    assert leans_to_flow.tolist() == [True, True, False, False]
    assert top1(fusion.apply(test), test.labels) > accuracy("search", fit_on, test)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_fusions_beat_either_stream_where_they_complement_each_other(name: str) -> None:
    fit_on, test = clips(400), clips(400, seed=1)
    alone = max(accuracy("rgb", fit_on, test), accuracy("flow", fit_on, test))
    assert accuracy(name, fit_on, test) > alone + 0.1


@pytest.mark.parametrize("name", LEARNED)
def test_the_seed_decides_and_torchs_generator_is_left_alone(name: str) -> None:
    fit_on, test = clips(60), clips(20, seed=1)
    before = torch.get_rng_state()
    one, two = (fuse_all(fit_on, test, seed=3, names=[name])[name] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["score-gate", "gmu"])
def test_another_seed_gives_another_net(name: str) -> None:
    fit_on = clips(60)
    one, two = (fuse_all(fit_on, fit_on, seed=seed, names=[name])[name] for seed in (0, 1))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("name", [name for name in FUSIONS if name != "oracle"])
def test_only_the_oracle_reads_the_labels_of_what_it_is_applied_to(name: str) -> None:
    fit_on, test = clips(60), clips(20, seed=1)
    blind = dataclasses.replace(test, labels=np.zeros_like(test.labels))
    np.testing.assert_array_equal(
        fuse_all(fit_on, test, seed=0, names=[name])[name],
        fuse_all(fit_on, blind, seed=0, names=[name])[name],
    )


def test_score_gate_learns_to_leave_a_flat_stream() -> None:
    """Each clip has one flat stream, which its entropy shows."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=400)
    truth = 3 * np.eye(CLASSES)[labels] + rng.normal(size=(400, CLASSES))
    flat = 0.3 * rng.normal(size=(400, CLASSES))
    flow_flat = (np.arange(400) % 2 == 0)[:, None]
    data = FusionData(
        flow=np.where(flow_flat, flat, truth), rgb=np.where(flow_flat, truth, flat), labels=labels
    )
    gate = ScoreGate()
    gate.fit(data, seed=0)
    weights = gate.gates(data)
    assert (weights >= 0).all()
    fraction = weights[:, 0] / weights.sum(axis=1)
    assert fraction[flow_flat[:, 0]].mean() < fraction[~flow_flat[:, 0]].mean()


def test_logistic_regression_chooses_a_stronger_penalty_for_noise() -> None:
    data = clips(120)
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(
        data, flow_features=rng.normal(size=(120, 6)), rgb_features=rng.normal(size=(120, 6))
    )
    signal, nothing = Logistic(reads="features"), Logistic(reads="features")
    signal.fit(data, seed=0)
    nothing.fit(noise, seed=0)
    assert signal.penalty is not None
    assert nothing.penalty is not None
    assert nothing.penalty > signal.penalty


def test_groups_stay_in_one_fold() -> None:
    data = clips(40)
    folds = fold_numbers(data, seed=0).reshape(-1, 4)
    assert (folds == folds[:, :1]).all()
    assert set(folds.flatten()) == {0, 1, 2, 3}


def test_a_fusion_must_be_fitted_first() -> None:
    for name in ("search", "global", "stack", "score-gate", "features", "gmu"):
        with pytest.raises(InvalidParameterError, match="must be fitted before it is applied"):
            build_fusion(name).apply(clips(5))


def test_missing_features_and_unlike_arrays_are_refused() -> None:
    data = clips(20)
    bare = dataclasses.replace(data, flow_features=None)
    with pytest.raises(InvalidParameterError, match="pooled features, got none"):
        build_fusion("features").fit(bare, seed=0)
    with pytest.raises(InvalidParameterError, match="labels must have 20 clips, got 3"):
        dataclasses.replace(data, labels=data.labels[:3])
    with pytest.raises(InvalidParameterError, match="must be \\(clips, classes\\) alike"):
        dataclasses.replace(data, rgb=data.rgb[:, :2])
    with pytest.raises(InvalidParameterError, match=r"Invalid fusion \('max'\)\. .* are rgb, flow, "):
        build_fusion("max")
