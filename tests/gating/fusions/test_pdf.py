"""Predicted true-class probabilities, and the weights that follow from them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions import FusionData
from gating.fusions.base import softmax
from gating.fusions.pdf import Pdf, columns_of, weights_of
from gating.statistics import top1
from tests.make.fusion_data import accuracy, clips


def fitted(data: FusionData) -> Pdf:
    fusion = Pdf()
    fusion.fit(data, seed=0)
    return fusion


def test_the_weights_are_the_papers_equations() -> None:
    """One clip by hand, with two classes: flow shows (.9, .1), rgb (.7, .3)."""
    flow, rgb, true_class = np.array([[0.9, 0.1]]), np.array([[0.7, 0.3]]), np.array([[0.8, 0.5]])
    holo_flow = math.log(0.5) / (math.log(0.8) + math.log(0.5))
    belief_flow = 0.8 + holo_flow
    belief_rgb = 0.5 + 1 - holo_flow
    relative_rgb = 0.2 / 0.4
    odds = math.exp(belief_flow - belief_rgb * relative_rgb)
    expected = [odds / (1 + odds), 1 / (1 + odds)]
    assert weights_of(true_class, flow, rgb)[0].tolist() == pytest.approx(expected)
    swapped = weights_of(true_class[:, ::-1], rgb, flow)[0]
    assert swapped.tolist() == pytest.approx(expected[::-1])


def test_flat_and_equal_streams_count_alike() -> None:
    flat = np.full((1, 4), 0.25)
    assert weights_of(np.array([[0.25, 0.25]]), flat, flat).tolist() == [[0.5, 0.5]]


def test_a_weight_is_within_a_factor_of_e_squared_of_the_other() -> None:
    sure, flat = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    weights = weights_of(np.array([[1 - 1e-6, 1e-6]]), sure, flat)[0]
    assert weights[0] / weights[1] == pytest.approx(math.exp(2), rel=1e-3)
    assert weights.sum() == pytest.approx(1.0)


def calibrated_stream(count: int, *, classes: int = 4, seed: int = 0) -> FusionData:
    """Labels drawn from flow's own probabilities, of clear and unclear clips; rgb is flow upside down."""
    rng = np.random.default_rng(seed)
    flow = rng.uniform(0.2, 4.0, (count, 1)) * rng.normal(size=(count, classes))
    labels = (softmax(flow).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return FusionData(flow=flow, rgb=-flow, labels=labels)


def test_the_regressor_finds_the_true_class_probability_that_a_stream_has() -> None:
    """A calibrated stream's is sum_c p[c]^2 on average; that of scores upside down is below chance."""
    fit_on, test = calibrated_stream(800), calibrated_stream(400, seed=1)
    found = fitted(fit_on).true_class(test)
    expected = (softmax(test.flow) ** 2).sum(axis=1)
    assert np.abs(found[:, 0] - expected).mean() < 0.03
    actual = softmax(test.rgb)[np.arange(400), test.labels]
    assert found[:, 1].mean() == pytest.approx(actual.mean(), abs=0.03)
    assert found[:, 1].mean() < 0.25


def test_a_regressor_learns_which_classes_a_stream_knows() -> None:
    data = clips(400)
    found = fitted(data).true_class(clips(400, seed=1))
    labels = clips(400, seed=1).labels
    assert found[labels < 2, 0].mean() > found[labels < 2, 1].mean() + 0.2
    assert found[labels >= 2, 1].mean() > found[labels >= 2, 0].mean() + 0.2


def test_a_sure_stream_of_noise_gets_the_smaller_weight_and_costs_little() -> None:
    rng = np.random.default_rng(5)
    fit_on, test = clips(400), clips(400, seed=1)
    fit_on, test = (
        dataclasses.replace(
            one, flow=3 * rng.normal(size=one.rgb.shape), rgb=6 * np.eye(4)[one.labels] + one.rgb
        )
        for one in (fit_on, test)
    )
    fusion = fitted(fit_on)
    weights = fusion.clip_weights(test)
    assert (weights[:, 0] < weights[:, 1]).all()
    assert weights[:, 0].mean() < 0.2
    assert top1(fusion.apply(test), test.labels) > top1(test.flow + test.rgb, test.labels) + 0.02


def test_pdf_beats_equal_weights_where_confidence_shows_the_stream_that_knows() -> None:
    fit_on, test = clips(400), clips(2000, seed=1)
    assert accuracy("pdf", fit_on, test) > accuracy("average", fit_on, test) + 0.02


def test_scores_are_the_weights_times_both_streams() -> None:
    data = clips(60)
    fusion = fitted(data)
    weights = fusion.clip_weights(data)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(fusion.apply(data), weights[:, :1] * data.flow + weights[:, 1:] * data.rgb)


def test_columns_of_a_sure_and_of_a_flat_clip_are_finite() -> None:
    columns = columns_of(np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]))
    assert np.isfinite(columns).all()
    assert columns[1, :2].tolist() == pytest.approx([-math.log(2), math.log(3)])
