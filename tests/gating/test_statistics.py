"""Accuracy, intervals and tests, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from gating.statistics import (
    bootstrap_interval,
    calibration,
    class_accuracies,
    confusion_matrix,
    correct_predictions,
    headroom_fraction,
    mcnemar,
    mean_class_accuracy,
    top1,
    top5,
)

SCORES = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 1, 2])


def test_accuracies_by_hand() -> None:
    assert correct_predictions(SCORES, LABELS).tolist() == [True, True, False, True]
    assert top1(SCORES, LABELS) == 0.75
    assert class_accuracies(SCORES, LABELS).tolist() == [1.0, 0.5, 1.0]
    assert mean_class_accuracy(SCORES, LABELS) == pytest.approx(2.5 / 3)
    assert confusion_matrix(SCORES, LABELS).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_a_class_without_clips_is_left_out_of_the_mean() -> None:
    assert math.isnan(class_accuracies(SCORES[:2], LABELS[:2])[2])
    assert mean_class_accuracy(SCORES[:2], LABELS[:2]) == 1.0


def test_the_interval_is_the_binomials_for_one_seed() -> None:
    right = np.arange(400) < 300
    interval = bootstrap_interval(right, resamples=4000)
    std = math.sqrt(0.75 * 0.25 / 400)
    assert interval.estimate == 0.75
    # Quantiles of 4000 resamples are uncertain by about .002 themselves.
    assert interval.low == pytest.approx(0.75 - 1.96 * std, abs=0.006)
    assert interval.high == pytest.approx(0.75 + 1.96 * std, abs=0.006)


def test_chance_of_the_seed_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    luck = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    right = rng.random((5, 500)) < luck[:, None]
    by_seed = bootstrap_interval(right, resamples=2000)
    stacked = bootstrap_interval(right.reshape(-1), resamples=2000)
    assert by_seed.estimate == pytest.approx(stacked.estimate)
    assert by_seed.high - by_seed.low > 3 * (stacked.high - stacked.low)


def test_equal_seeds_give_the_interval_of_one() -> None:
    right = np.arange(100) % 3 == 0
    one = bootstrap_interval(right, resamples=3000)
    five = bootstrap_interval(np.tile(right, (5, 1)), resamples=3000)
    assert five.low == pytest.approx(one.low, abs=0.01)
    assert five.high == pytest.approx(one.high, abs=0.01)


def test_duplicates_of_a_clip_do_not_narrow_the_interval() -> None:
    right = np.arange(60) % 2 == 0
    doubled = np.repeat(right, 2)
    original = bootstrap_interval(right, resamples=3000)
    naive = bootstrap_interval(doubled, resamples=3000)
    clustered = bootstrap_interval(doubled, resamples=3000, clusters=np.repeat(np.arange(60), 2))
    assert clustered.high - clustered.low == pytest.approx(original.high - original.low, abs=0.02)
    assert naive.high - naive.low < 0.8 * (clustered.high - clustered.low)


def test_certain_predictions_have_no_interval_and_equal_seeds_repeat() -> None:
    certain = bootstrap_interval(np.ones((3, 10)), resamples=50)
    assert (certain.low, certain.high) == (1.0, 1.0)
    right = np.arange(50) % 4 == 0
    assert bootstrap_interval(right, seed=5) == bootstrap_interval(right, seed=5)
    # Twenty resamples do not agree by chance, as thousands may.
    one, other = (bootstrap_interval(right, seed=seed, resamples=20) for seed in (5, 6))
    assert one != other


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    base = np.arange(300) % 3 > 0
    better = base.copy()
    better[:30:3] = True
    difference = bootstrap_interval(better.astype(float) - base, resamples=2000)
    assert difference.low > 0
    assert difference.estimate == pytest.approx(10 / 300)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((0,)), {}, "values must be"),
        (np.zeros((2, 2, 2)), {}, "values must be"),
        (np.zeros(3), {"level": 1.0}, "level must be in"),
        (np.zeros(3), {"clusters": np.arange(2)}, r"clusters must be \(3,\)"),
    ],
)
def test_impossible_bootstraps_are_refused(
    values: np.ndarray, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        bootstrap_interval(values, **options)  # type: ignore[arg-type]


def paired_predictions(both: int, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.array([True] * both + [True] * one + [False] * other)
    second = np.array([True] * both + [False] * one + [True] * other)
    return first, second


@pytest.mark.parametrize(
    ("one", "other", "p_value"),
    [
        # Two-sided binomial(n, 1/2): 2 * P(X <= smaller), at most 1.
        (5, 0, 2 / 32),
        (1, 9, 2 * 11 / 1024),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_the_exact_binomial(one: int, other: int, p_value: float) -> None:
    result = mcnemar(*paired_predictions(20, one, other))
    assert (result.only_first, result.only_second) == (one, other)
    assert result.p_value == pytest.approx(p_value, rel=1e-12)


def test_mcnemar_holds_for_thousands_of_disagreements() -> None:
    # 2^-3000 underflows in floats; the normal approximation: z = 200 / sqrt(3000), p = 2.9e-4 with
    # the half-clip correction.
    result = mcnemar(*paired_predictions(0, 1600, 1400))
    assert result.p_value == pytest.approx(math.erfc((200 - 1) / math.sqrt(3000) / math.sqrt(2)), rel=0.01)


def test_mcnemar_refuses_stacked_seeds() -> None:
    with pytest.raises(InvalidParameterError, match="first and second must be"):
        mcnemar(np.zeros((2, 3), bool), np.zeros((2, 3), bool))


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    result = calibration(probabilities, np.array([0, 1, 0, 1]), bins=10)
    # Bin of .9: accuracy .5, gap .4, 2 clips; bin of .6: accuracy 1, gap .4, 2 clips.
    assert result.error == pytest.approx(0.4)
    assert result.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 2, 0]
    assert math.isnan(result.accuracy[0])


def test_confident_and_right_is_calibrated() -> None:
    assert calibration(np.eye(3), np.arange(3)).error == 0
    assert calibration(np.eye(3), np.array([1, 2, 0])).error == 1


def test_calibration_refuses_scores() -> None:
    with pytest.raises(InvalidParameterError, match="apply softmax first"):
        calibration(SCORES, LABELS)


def test_headroom_is_the_fraction_of_the_way_to_the_oracle() -> None:
    assert headroom_fraction(0.8, 0.7, 0.9) == pytest.approx(0.5)
    assert math.isnan(headroom_fraction(0.8, 0.9, 0.9))


def test_the_label_among_the_five_best_counts() -> None:
    scores = np.tile(np.arange(8.0), (3, 1))
    assert top5(scores, np.array([7, 3, 2])) == pytest.approx(2 / 3)
