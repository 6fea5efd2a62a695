"""Weights by energy: the equation, and streams whose energy shows where they are wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.config import FIXED_WEIGHTS
from gating.fusions import FusionData
from gating.fusions.base import softmax
from gating.fusions.qmf import SCALE, Qmf, negative_energy
from gating.statistics import top1
from tests.make.fusion_data import accuracy, clips


def energies_tell(count: int, *, classes: int = 4, seed: int = 0) -> FusionData:
    """Clips whose one stream is wrong by a margin of 3, at scores below zero; the other's is right by 2.

    Each stream is wrong on half of the clips, so that no pair of fixed weights is right on all.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    wrong = (labels + rng.integers(1, classes, size=count)) % classes
    good = 3 + 2 * np.eye(classes)[labels] + rng.normal(0, 0.2, (count, classes))
    bad = -2.5 + 3 * np.eye(classes)[wrong] + rng.normal(0, 0.2, (count, classes))
    flow_is_good = (rng.random(count) < 0.5)[:, None]
    return FusionData(
        flow=np.where(flow_is_good, good, bad), rgb=np.where(flow_is_good, bad, good), labels=labels
    )


def test_the_weights_are_the_papers_equation() -> None:
    scores = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(negative_energy(scores, 1.0), np.log(np.exp(scores).sum(axis=1)))
    np.testing.assert_allclose(negative_energy(scores, 2.0), 2 * np.log(np.exp(scores / 2).sum(axis=1)))
    data = FusionData(flow=scores, rgb=2 * scores, labels=np.zeros(2, np.int64))
    weights = Qmf().clip_weights(data)
    assert weights[1].tolist() == pytest.approx([0.1 * np.log(3), 0.1 * np.log(3)])
    np.testing.assert_allclose(Qmf().apply(data), weights[:, :1] * scores + weights[:, 1:] * 2 * scores)


def test_large_scores_have_finite_energies() -> None:
    scores = np.array([[1e4, 0.0], [-1e4, -1e4]])
    assert negative_energy(scores, 1.0).tolist() == [1e4, -1e4 + np.log(2)]


def test_a_stream_whose_energy_is_high_where_it_is_wrong_loses_there() -> None:
    fit_on, test = energies_tell(200), energies_tell(400, seed=1)
    fixed = ("rgb", "flow", "average", "average-probabilities", "weighted", "search", "search-probabilities")
    assert max(accuracy(name, fit_on, test) for name in fixed) < 0.7
    assert accuracy("qmf", fit_on, test) > 0.98


def test_a_constant_on_a_streams_scores_moves_its_weight_alone() -> None:
    """Softmax does not see it: the energy is not a function of a stream's probabilities."""
    data = clips(50)
    moved = dataclasses.replace(data, flow=data.flow + 7.0)
    np.testing.assert_allclose(softmax(moved.flow), softmax(data.flow))
    before, after = Qmf().clip_weights(data), Qmf().clip_weights(moved)
    np.testing.assert_allclose(after[:, 0], before[:, 0] + SCALE * 7.0)
    np.testing.assert_array_equal(after[:, 1], before[:, 1])


def test_no_weight_is_negative_and_a_clip_without_any_gets_the_fixed_ones() -> None:
    low, high = np.full((1, 4), -9.0), np.array([[2.0, 0.0, 0.0, 0.0]])
    data = FusionData(
        flow=np.concatenate([low, low, high]),
        rgb=np.concatenate([high, low + np.eye(4)[:1], low]),
        labels=np.zeros(3, np.int64),
    )
    weights = Qmf().clip_weights(data)
    assert (weights >= 0).all()
    assert Qmf().fell_back(data).tolist() == [False, True, False]
    assert weights[1].tolist() == list(FIXED_WEIGHTS)
    assert weights[0, 0] == weights[2, 1] == 0
    # A stream of negative weight would count for the classes that it speaks against.
    assert top1(Qmf().apply(data), data.labels) == 1.0
