"""Accuracy with its uncertainty: bootstrap over seed and clip, McNemar's test, calibration.

NumPy alone. Arrays of right predictions are bool, (clips,) or (seeds, clips); scores are (clips, classes).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]
Correct = NDArray[np.bool_]

# Resamples drawn at a time: bounds the memory, not the result.
_BLOCK = 256


def correct_predictions(scores: Scores, labels: Labels) -> Correct:
    """Return right predictions, bool (clips,): the first of the largest scores is the label's."""
    correct: Correct = scores.argmax(axis=-1) == labels
    return correct


def top1(scores: Scores, labels: Labels) -> float:
    """Return the fraction of clips whose largest score is their label's, [0, 1]."""
    return float(correct_predictions(scores, labels).mean())


def top5(scores: Scores, labels: Labels) -> float:
    """Return the fraction of clips whose label is among the five best scores, [0, 1]."""
    best = np.argsort(-np.asarray(scores), axis=-1, kind="stable")[..., :5]
    return float((best == np.asarray(labels)[..., None]).any(axis=-1).mean())


def class_accuracies(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Return each class's fraction of right predictions, (classes,); NaN for a class without clips."""
    matrix = confusion_matrix(scores, labels)
    counts = matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):
        accuracies: NDArray[np.float64] = np.diagonal(matrix) / np.where(counts == 0, np.nan, counts)
    return accuracies


def mean_class_accuracy(scores: Scores, labels: Labels) -> float:
    """Return the mean over classes of their accuracies, [0, 1], as TSN reports; empty ones left out."""
    return float(np.nanmean(class_accuracies(scores, labels)))


def confusion_matrix(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Return counts (classes, classes): rows are labels, columns predictions."""
    classes = scores.shape[-1]
    pairs = np.asarray(labels) * classes + scores.argmax(axis=-1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its two-sided interval."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Return the mean of right predictions and its percentile interval, bootstrapped over seed and clip.

    Seeds and clips are drawn with replacement, each on its own: a resample keeps whole rows and
    whole columns, so that both the training's and the clips' chance count. A paired difference
    is the interval of `a.astype(float) - b`.

    Parameters
    ----------
    values
        (clips,) or (seeds, clips): bool, which predictions are right, or differences of two methods' arrays.
    level
        Fraction that the interval holds, (0, 1).
    resamples
        Number of them, >= 1.
    seed
        Of the bootstrap.
    clusters
        (clips,): clips with one value are drawn together, such as a clip and its mirror image.

    Raises
    ------
    InvalidParameterError
        No values, or an option outside its range.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or table.size == 0:
        raise InvalidParameterError(f"values must be (clips,) or (seeds, clips), got {np.shape(values)}")
    if not (0 < level < 1 and resamples >= 1):
        raise InvalidParameterError(f"level must be in (0, 1) and resamples >= 1, got {level}, {resamples}")
    sums, sizes = _cluster_sums(table, clusters)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(table.mean()), float(low), float(high))


def _cluster_sums(
    table: NDArray[np.float64], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if clusters is None:
        return table, np.ones(table.shape[1])
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    if members.shape != table.shape[1:]:
        raise InvalidParameterError(f"clusters must be ({table.shape[1]},), got {members.shape}")
    sums: NDArray[np.float64] = np.stack(
        [np.bincount(members, weights=row, minlength=len(names)) for row in table], dtype=np.float64
    )
    sizes: NDArray[np.float64] = np.bincount(members).astype(np.float64)
    return sums, sizes


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    seeds, clusters = sums.shape
    # Clusters of equal values are drawn as one: the same distribution, at a fraction of the time.
    kinds, counts = np.unique(np.vstack([sums, sizes]), axis=1, return_counts=True)
    sums, sizes = kinds[:-1], kinds[-1]
    means = []
    for first in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - first)
        # How often each row and column was drawn: the mean of a resample is bilinear in these.
        rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
        columns = rng.multinomial(clusters, counts / clusters, size=count)
        totals = ((rows @ sums) * columns).sum(axis=1)
        means.append(totals / (seeds * (columns @ sizes)))
    return np.concatenate(means)


@dataclasses.dataclass(frozen=True, slots=True)
class McNemar:
    """The exact paired test of two methods on the same clips.

    Attributes
    ----------
    only_first, only_second : int
        Clips that one method alone has right.
    p_value : float
        Two-sided: chance of so uneven a split if both were equally good, (0, 1].
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Correct, second: Correct) -> McNemar:
    """Test two methods' right predictions (clips,) by McNemar's exact binomial test.

    Source: McNemar, Psychometrika 12, 1947, in the exact form: of n clips on which exactly one
    is right, the smaller count is binomial(n, 1/2). Clips of one split are the unit: do not
    stack seeds, whose predictions of one clip depend on each other.
    """
    if np.ndim(first) != 1 or np.shape(first) != np.shape(second):
        raise InvalidParameterError(
            f"first and second must be (clips,) alike, got {np.shape(first)}, {np.shape(second)}"
        )
    one = int(np.count_nonzero(first & ~second))
    other = int(np.count_nonzero(second & ~first))
    total = one + other
    # Whole numbers: a sum of floats would round 2^-n away where n is large.
    tail = sum(math.comb(total, k) for k in range(min(one, other) + 1))
    return McNemar(one, other, min(1.0, 2 * tail / 2**total))


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against accuracy, in bins of equal width.

    Attributes
    ----------
    error : float
        Expected calibration error, [0, 1].
    confidence, accuracy : NDArray
        float64 (bins,), means within each bin; NaN where it is empty.
    counts : NDArray
        int64 (bins,).
    """

    error: float
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]


def calibration(probabilities: Scores, labels: Labels, *, bins: int = 15) -> Calibration:
    """Return the expected calibration error of probabilities (clips, classes) and its bins.

    Source: Guo et al., arXiv 1706.04599, equation 3: the mean over clips of the gap between
    accuracy and confidence of their bin (k / bins, (k + 1) / bins].
    """
    confidence = probabilities.max(axis=-1).astype(np.float64)
    if not (0 <= confidence.min() and confidence.max() <= 1 + 1e-6):
        raise InvalidParameterError(
            f"probabilities must be in [0, 1], got up to {confidence.max():.3g}; apply softmax first"
        )
    member = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(member, minlength=bins)
    filled = np.where(counts == 0, np.nan, counts)
    correct = correct_predictions(probabilities, labels).astype(np.float64)
    accuracies = np.bincount(member, weights=correct, minlength=bins) / filled
    confidences = np.bincount(member, weights=confidence, minlength=bins) / filled
    gaps = np.nan_to_num(np.abs(accuracies - confidences)) * counts
    return Calibration(float(gaps.sum() / counts.sum()), confidences, accuracies, counts)


def headroom_fraction(method: float, baseline: float, oracle: float) -> float:
    """Return (method - baseline) / (oracle - baseline), all [0, 1]; NaN without headroom."""
    return (method - baseline) / (oracle - baseline) if oracle > baseline else math.nan
