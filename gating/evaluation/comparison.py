"""All fusions on the same test clips: compared in one trial, and over several seeds, splits and folds.

Fusions are fitted on held-out clips; the test clips are used once. A trial is one split (or one fold of it)
and one seed.
"""

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
from gating.config import BASELINE, CHOSEN, GATING
from gating.errors import ScoresError
from gating.evaluation.scores import ClipScores
from gating.fusions import FUSIONS, Fusion, FusionData, Kind, Scores, build_fusion, kind_of, probabilities_of
from gating.fusions.base import both_zero
from gating.fusions.fixed import Search
from gating.metrics import GateSummary, summarise_gates
from gating.statistics import (
    McNemar,
    bootstrap_interval,
    calibration,
    class_accuracies,
    correct_predictions,
    mcnemar,
    mean_class_accuracy,
    top1,
    top5,
)

Fused = Mapping[str, NDArray[np.float64]]
SplitKind = Literal["subset", "fold", "all"]
"""Of a trial: its clips are a test list, a fold, or all of them, trained on and scored out of fold."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialComparison:
    """All fusions on the test clips of one trial.

    Attributes
    ----------
    split, part : str
        The split's name, and the part of it that was tested: "test", or a fold; "all" where every clip
        trains.
    kind : {"subset", "fold", "all"}
        Of the split: the folds of one split are one test set; "all" is no test.
    seed : int
        Of training.
    scores : ClipScores
        Of the test clips; of kind "all" out-of-fold scores of the training clips.
    fused : mapping of str to NDArray
        Each fusion's scores, float64 (N, C); "gating" among them where there is a gate. Of one stream alone,
        its own.
    search_fraction : float
        Flow's fraction of the best fixed weights, [0, 1].
    validation : mapping of str to float
        Top-1 of "search" and "gating", or of the only stream, on the validation clips.
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
    def is_out_of_fold(self) -> bool:
        """True if the scores are of training clips, by networks and fusions that did not learn from them."""
        return self.kind == "all"

    @property
    def prefers_gate(self) -> bool:
        """True if the gate is better than the best fixed weights on the validation clips."""
        return GATING in self.validation and self.validation[GATING] > self.validation[BASELINE]

    def chosen(self, asked: str = GATING) -> str:
        """Return the fusion that `predict` uses: the one asked for, or of gate and baseline the preferred.

        Of one stream alone it is that one.
        """
        if self.scores.lone_stream is not None:
            return self.scores.lone_stream
        if asked not in (GATING, BASELINE) and kind_of(asked) != Kind.BOUND:
            return asked
        return GATING if self.prefers_gate else BASELINE

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


def compare_fusions(
    test: ClipScores,
    *,
    fit_on: ClipScores,
    validation: ClipScores,
    split: str,
    part: str = "test",
    kind: SplitKind = "subset",
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> TrialComparison:
    """Fit every fusion on held-out clips and apply it to the test clips.

    Parameters
    ----------
    test
        Scores of the final streams and of the gate.
    fit_on
        Scores of clips that the streams which gave them did not learn from. Without features (they
        are out-of-fold streams' scores) the fusions that read features are fitted on `validation`.
    validation
        Scores of the final streams on clips kept from learning; they decide whether the gate is preferred.
    split, part, kind, seed
        Of the comparison.
    names
        Some of `gating.fusions.FUSIONS`, None is all; the baseline is always among them, and the
        gate where the clips have its scores. Of one stream alone there is its own row.

    Raises
    ------
    ScoresError
        A clip has no label.
    """
    for role, clips in (("test", test), ("fit_on", fit_on), ("validation", validation)):
        if (clips.labels < 0).any():
            raise ScoresError(f"{role} has {(clips.labels < 0).sum()} clips without a label, expected none")
    tested, fitted, held = (one.fusion_data() for one in (test, fit_on, validation))
    asked = [name for name in (FUSIONS if names is None else names) if name != GATING]
    if test.lone_stream is not None:
        asked = [test.lone_stream]
    else:
        asked = [*asked, BASELINE, *(() if tested.gated is None or held.gated is None else (GATING,))]
    fusions = {name: build_fusion(name) for name in dict.fromkeys(asked)}
    for fusion in fusions.values():
        fusion.fit(fitted if fitted.offers(fusion.needs) else held, seed=seed)
    return TrialComparison(
        split=split,
        part=part,
        kind=kind,
        seed=seed,
        scores=test,
        fused={name: fusion.apply(tested) for name, fusion in fusions.items()},
        search_fraction=flow_fraction(fusions),
        validation={name: _top1(fusions[name], held) for name in judged(fusions)},
    )


def flow_fraction(fusions: Mapping[str, Fusion]) -> float:
    """Return flow's fraction of the best fixed weights, or of flow or rgb alone 1 or 0."""
    search = fusions.get(BASELINE)
    if isinstance(search, Search):
        return search.fraction or 0.0
    return float("flow" in fusions)


def judged(fusions: Mapping[str, object]) -> list[str]:
    """Return the fusions whose top-1 decides what predicts: baseline and gate, or the only stream."""
    return [name for name in (BASELINE, GATING) if name in fusions] or [*fusions]


def _top1(fusion: Fusion, clips: FusionData) -> float:
    scores: Scores = fusion.apply(clips)
    return top1(scores, clips.labels) if len(scores) else math.nan


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
    top5 : float
        Mean fraction of clips whose class is among the five best, [0, 1]; 1 with five classes or fewer.
    per_class : tuple of float
        Mean accuracy of each class, [0, 1]; NaN for a class without clips.
    """

    top1: float
    mean_class: float
    interval: tuple[float, float]
    spread: float
    calibration_error: float
    top5: float
    per_class: tuple[float, ...]


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


def chosen_row(comparisons: Sequence[TrialComparison], asked: str = GATING) -> FusionRow:
    """Return the row of the fusions that the trials chose: each clip counts by its own trial's choice."""
    own = [dataclasses.replace(one, fused={CHOSEN: one.fused[one.chosen(asked)]}) for one in comparisons]
    return fusion_rows(own)[CHOSEN]


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
        top5=float(np.mean([top5(pool.fused[name], pool.labels) for pool in each])),
        per_class=tuple(_mean_of_classes([class_accuracies(p.fused[name], p.labels) for p in each])),
    )


def _mean_of_classes(accuracies: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return each class's mean over those that have clips of it; NaN where none has."""
    rows = np.stack(accuracies)
    counts = np.isfinite(rows).sum(axis=0)
    totals = np.nan_to_num(rows).sum(axis=0)
    return [float(total / count) if count else math.nan for total, count in zip(totals, counts, strict=True)]


def _calibration_error(name: str, pool: Pool) -> float:
    if kind_of(name) == Kind.BOUND:
        return math.nan
    return calibration(probabilities_of(name, pool.fused[name]), pool.labels).error
