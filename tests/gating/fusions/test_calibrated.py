"""Temperatures of made scores whose true ones are known, and the average of calibrated streams."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

from gating.fusions import FusionData, Scores
from gating.fusions.base import Sums, softmax
from gating.fusions.calibrated import Calibrated, temperature
from gating.statistics import calibration, top1
from tests.make.fusion_data import fuse_all


def streams(count: int, *, classes: int = 5, seed: int = 0, flow_times: float = 10.0) -> FusionData:
    """Two streams that know as much and err apart; flow's scores are `flow_times` what they should be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    # Noise of variance 1 around 1.5 at the label: the log odds of the classes are 1.5 times the values.
    flow, rgb = (1.5 * (1.5 * np.eye(classes)[labels] + rng.normal(size=(count, classes))) for _ in range(2))
    return FusionData(flow=flow_times * flow, rgb=rgb, labels=labels)


def fitted(data: FusionData, sums: Sums = "scores") -> Calibrated:
    fusion = Calibrated(sums=sums)
    fusion.fit(data, seed=0)
    return fusion


@pytest.mark.parametrize("times", [10.0, 2.0, 1.0, 0.5])
def test_the_temperature_is_how_many_times_too_large_the_scores_are(times: float) -> None:
    temperatures = fitted(streams(800, flow_times=times)).temperatures
    assert temperatures == pytest.approx((times, 1.0), rel=0.15)


def test_a_stream_ten_times_too_sure_is_averaged_as_what_it_knows() -> None:
    """Added as they are, flow decides alone; calibrated, both count alike, as they should."""
    fit_on, test = streams(400), streams(2000, seed=1)
    scores = fuse_all(
        fit_on, test, seed=0, names=["flow", "average", "calibrated", "calibrated-probabilities"]
    )
    found = {name: top1(one, test.labels) for name, one in scores.items()}
    best = top1(test.flow / 10 + test.rgb, test.labels)
    assert found["average"] < found["flow"] + 0.05
    assert found["calibrated"] > found["average"] + 0.1
    assert found["calibrated-probabilities"] > found["average"] + 0.1
    assert found["calibrated"] == pytest.approx(best, abs=0.01)


def test_a_streams_calibration_error_falls() -> None:
    data = streams(2000)
    flow, _ = fitted(data).temperatures or (0.0, 0.0)
    before, after = (calibration(softmax(data.flow / one), data.labels).error for one in (1.0, flow))
    assert before > 0.2
    assert after < 0.03


def shortfall(scores: Scores, labels: NDArray[np.int64], found: float) -> float:
    """Return 1 + sum_i (E_i - z_i[y_i]), which is the temperature at the objective's optimum."""
    expected = (softmax(scores / found) * scores).sum(axis=1)
    return 1 + float((expected - scores[np.arange(len(labels)), labels]).sum())


@pytest.mark.parametrize("times", [0.1, 1.0, 1000.0])
def test_the_temperature_is_at_the_optimum(times: float) -> None:
    data = streams(60, flow_times=times)
    found = temperature(data.flow, data.labels)
    assert shortfall(data.flow, data.labels, found) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("count", [1, 20, 5000])
@pytest.mark.parametrize("margin", [0.01, 1.0, 100.0])
def test_separable_scores_leave_a_temperature_above_zero(count: int, margin: float) -> None:
    labels = np.arange(count) % 3
    scores = margin * np.eye(3)[labels]
    found = temperature(scores, labels)
    assert 0 < found <= 1
    # Far below the margin, and not without end: the clips' shortfalls add up to less than 1.
    assert found > min(0.99, margin / (20 + 2 * np.log(count)))


def test_scores_that_know_nothing_leave_a_finite_temperature() -> None:
    rng = np.random.default_rng(0)
    noise, labels = 3 * rng.normal(size=(500, 4)), rng.integers(4, size=500)
    assert 5 < temperature(noise, labels) < 1 + np.ptp(noise, axis=1).sum()
    always_wrong = -5 * np.eye(4)[labels]
    assert 5 < temperature(always_wrong, labels) <= 1 + 5 * 500
    assert temperature(np.ones((20, 4)), labels[:20]) == pytest.approx(1.0)


def test_a_stream_of_noise_is_left_to_the_other_one() -> None:
    data = streams(400, flow_times=1.0)
    noise = dataclasses.replace(data, flow=30 * np.random.default_rng(5).normal(size=data.flow.shape))
    fusion = fitted(noise)
    flow, rgb = fusion.clip_weights(noise)[0]
    assert flow < rgb / 20
    assert top1(fusion.apply(noise), data.labels) > top1(data.rgb, data.labels) - 0.01
    assert top1(noise.flow + noise.rgb, data.labels) < 0.4


@pytest.mark.parametrize("sums", ["scores", "probabilities"])
def test_two_equal_streams_are_one_calibrated_stream(sums: Sums) -> None:
    data = streams(100)
    same = dataclasses.replace(data, rgb=data.flow)
    fusion = fitted(same, sums)
    found, _ = fusion.temperatures or (0.0, 0.0)
    np.testing.assert_allclose(
        fusion.to_probabilities(fusion.apply(same)), softmax(data.flow / found), rtol=1e-12
    )


@pytest.mark.parametrize("sums", ["scores", "probabilities"])
def test_scores_are_the_weights_times_both_streams(sums: Sums) -> None:
    data = streams(30)
    fusion = Calibrated(sums=sums, temperatures=(10.0, 1.0))
    both = (data.flow, data.rgb) if sums == "scores" else (softmax(data.flow / 10), softmax(data.rgb))
    weights = fusion.clip_weights(data)
    np.testing.assert_allclose(fusion.apply(data), weights[:, :1] * both[0] + weights[:, 1:] * both[1])
