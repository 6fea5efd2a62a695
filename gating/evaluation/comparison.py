"""All fusions on the same test clips: of one trial, and over several seeds, splits and folds."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from gating.config import BASELINE, GATING
from gating.evaluation.scores import ClipScores
from gating.fusions import Kind, kind_of, probabilities_of
from gating.fusions.base import both_zero
from gating.metrics import GateSummary, summarise_gates
from gating.statistics import (
    McNemar,
    bootstrap_interval,
    calibration,
    correct_predictions,
    mcnemar,
    mean_class_accuracy,
)

Fused = Mapping[str, NDArray[np.float64]]
SplitKind = Literal["subset", "fold"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialComparison:
    """All fusions on the test clips of one trial.

    Attributes
    ----------
    split, part : str
        The split's name, and the part of it that was tested: "test", or a fold.
    kind : {"subset", "fold"}
        Of the split: the folds of one split are one test set.
    seed : int
        Of training.
    scores : ClipScores
        Of the test clips.
    fused : mapping of str to NDArray
        Each fusion's scores, float64 (N, C); "gating" among them where there is a gate.
    search_fraction : float
        Flow's fraction of the best fixed weights, [0, 1].
    validation : mapping of str to float
        Top-1 of "search" and "gating" on the validation clips.
    """

    split: str
    part: str
    kind: SplitKind
    seed: int
    scores: ClipScores
    fused: Fused
    search_fraction: float
    validation: Mapping[str, float]

    @property
    def prefers_gate(self) -> bool:
        """True if the gate is better than the best fixed weights on the validation clips."""
        return GATING in self.validation and self.validation[GATING] > self.validation[BASELINE]

    @property
    def gates(self) -> GateSummary | None:
        """A summary of the test clips' gates."""
        return None if self.scores.gates is None else summarise_gates(torch.from_numpy(self.scores.gates))

    @property
    def fallbacks(self) -> int:
        """Number of test clips that got the fixed weights since both gates were zero."""
        return 0 if self.scores.gates is None else int(both_zero(self.scores.gates).sum())

    @property
    def test(self) -> McNemar | None:
        """McNemar's test of the gate (first) against the best fixed weights."""
        if GATING not in self.fused:
            return None
        labels = self.scores.labels
        return mcnemar(*(correct_predictions(self.fused[name], labels) for name in (GATING, BASELINE)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionRow:
    """One fusion over all seeds and splits.

    Attributes
    ----------
    top1, mean_class : float
        Means over seeds and splits, [0, 1]; the folds of a split are one test set.
    interval : (float, float)
        95 % bootstrap interval of top-1 over seed and clip.
    spread : float
        Sample std of top-1 over seeds; NaN with one.
    calibration_error : float
        Mean expected calibration error, [0, 1]; NaN for a bound, which has no probabilities.
    """

    top1: float
    mean_class: float
    interval: tuple[float, float]
    spread: float
    calibration_error: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Top-1 of the gate less a baseline's, another fusion of the same streams.

    Attributes
    ----------
    baseline : str
        Name of the other fusion.
    mean : float
        Over seeds and splits, [-1, 1].
    interval : (float, float)
        95 % bootstrap interval of the paired difference over seed and clip.
    per_seed : tuple of float
        Of each seed.
    """

    baseline: str
    mean: float
    interval: tuple[float, float]
    per_seed: tuple[float, ...]


def fusion_rows(comparisons: Sequence[TrialComparison]) -> dict[str, FusionRow]:
    """Return the table over all trials, by fusion."""
    pools = pooled(comparisons)
    return {name: _row(name, pools) for name in comparisons[0].fused}


def gains(comparisons: Sequence[TrialComparison]) -> list[Gain]:
    """Return the gate's gain over each other fusion; empty without a gate."""
    if GATING not in comparisons[0].fused:
        return []
    pools = pooled(comparisons)
    own, weights, clips = _right(GATING, pools)
    found = []
    for baseline in comparisons[0].fused:
        if baseline != GATING:
            difference = own.astype(np.float64) - _right(baseline, pools)[0]
            interval = bootstrap_interval(difference * weights, clusters=clips)
            per_seed = tuple((difference * weights).mean(axis=1).tolist())
            found.append(
                Gain(
                    baseline=baseline,
                    mean=interval.estimate,
                    interval=(interval.low, interval.high),
                    per_seed=per_seed,
                )
            )
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """The test clips of one split and seed, all folds together: the unit of a paired test.

    Attributes
    ----------
    ids : tuple of str
        Of the N clips.
    labels : NDArray
        int64 (N,).
    fused : mapping of str to NDArray
        Each fusion's scores, float64 (N, C).
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    fused: Fused


def pooled(comparisons: Sequence[TrialComparison]) -> dict[str, list[Pool]]:
    """Return each split's pools, one a seed, in the order of seeds.

    Raises
    ------
    InvalidParameterError
        A split lacks a seed that another has, or its seeds were tested on other clips.
    """
    table: dict[str, dict[int, list[TrialComparison]]] = defaultdict(lambda: defaultdict(list))
    for one in comparisons:
        table[one.split][one.seed].append(one)
    if len({tuple(sorted(seeds)) for seeds in table.values()}) > 1:
        raise InvalidParameterError("every split must have been trained with the same seeds")
    pools = {split: [_pool(seeds[seed]) for seed in sorted(seeds)] for split, seeds in sorted(table.items())}
    for split, each in pools.items():
        if any(pool.ids != each[0].ids for pool in each):
            raise InvalidParameterError(
                f"the seeds of split {split!r} were tested on different clips, expected the same ones: "
                "finish every fold of every seed first"
            )
    return pools


def _pool(parts: Sequence[TrialComparison]) -> Pool:
    parts = sorted(parts, key=lambda one: one.part)
    return Pool(
        tuple(video_id for one in parts for video_id in one.scores.ids),
        np.concatenate([one.scores.labels for one in parts]),
        {name: np.concatenate([one.fused[name] for one in parts]) for name in parts[0].fused},
    )


def _right(
    name: str, pools: Mapping[str, Sequence[Pool]]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.str_]]:
    """Return a mask of right predictions (seeds, clips), each clip's weight and its id.

    The weights make splits count alike.
    """
    right = [
        [correct_predictions(pool.fused[name], pool.labels) for pool in seeds] for seeds in pools.values()
    ]
    ids = [seeds[0].ids for seeds in pools.values()]
    whole = sum(len(one) for one in ids)
    weights = [np.full(len(one), whole / (len(ids) * len(one))) for one in ids]
    rows = np.concatenate([np.stack(seeds) for seeds in right], axis=1)
    return rows, np.concatenate(weights), np.concatenate([np.array(one) for one in ids])


def _row(name: str, pools: Mapping[str, Sequence[Pool]]) -> FusionRow:
    right, weights, clips = _right(name, pools)
    interval = bootstrap_interval(right * weights, clusters=clips)
    per_seed = (right * weights).mean(axis=1)
    each = [pool for seeds in pools.values() for pool in seeds]
    return FusionRow(
        top1=interval.estimate,
        mean_class=float(np.mean([mean_class_accuracy(pool.fused[name], pool.labels) for pool in each])),
        interval=(interval.low, interval.high),
        spread=float(per_seed.std(ddof=1)) if len(per_seed) > 1 else math.nan,
        calibration_error=float(np.mean([_calibration_error(name, pool) for pool in each])),
    )


def _calibration_error(name: str, pool: Pool) -> float:
    if kind_of(name) == Kind.BOUND:
        return math.nan
    return calibration(probabilities_of(name, pool.fused[name]), pool.labels).error
