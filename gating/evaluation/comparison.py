"""From judgements to the table of fusions: what several seeds, splits and folds say together."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from gating.config import BASELINE, GATING, ORACLE
from gating.evaluation.judge import Fused, Judgement, probabilities_of
from gating.statistics import (
    bootstrap_interval,
    calibration,
    correct_answers,
    headroom_share,
    mean_class_accuracy,
    top1,
)

FORMAT = "flowkit-results 1"


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
        Standard deviation of top-1 over seeds; NaN with one.
    calibration_error : float
        Mean expected calibration error, [0, 1]; NaN for the oracle, whose scores are none.
    """

    top1: float
    mean_class: float
    interval: tuple[float, float]
    spread: float
    calibration_error: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """By how much top-1 of the gate exceeds a rival's: mean, 95 % interval, and each seed's."""

    rival: str
    mean: float
    interval: tuple[float, float]
    per_seed: tuple[float, ...]


def fusion_rows(judgements: Sequence[Judgement]) -> dict[str, FusionRow]:
    """Return the table over all trials, by fusion."""
    pools = pooled(judgements)
    return {name: _row(name, pools) for name in judgements[0].fused}


def gains(judgements: Sequence[Judgement]) -> list[Gain]:
    """Return the gate's gain over each other fusion; nothing without a gate."""
    if GATING not in judgements[0].fused:
        return []
    pools = pooled(judgements)
    own, weights, clips = _answers(GATING, pools)
    found = []
    for rival in judgements[0].fused:
        if rival != GATING:
            difference = own.astype(np.float64) - _answers(rival, pools)[0]
            interval = bootstrap_interval(difference * weights, clusters=clips)
            per_seed = tuple((difference * weights).mean(axis=1).tolist())
            found.append(
                Gain(
                    rival=rival,
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


def pooled(judgements: Sequence[Judgement]) -> dict[str, list[Pool]]:
    """Return each split's pools, one a seed, in the order of seeds.

    Raises
    ------
    InvalidParameterError
        A split lacks a seed that another has, or its seeds were judged on other clips.
    """
    table: dict[str, dict[int, list[Judgement]]] = defaultdict(lambda: defaultdict(list))
    for one in judgements:
        table[one.split][one.seed].append(one)
    if len({tuple(sorted(seeds)) for seeds in table.values()}) > 1:
        raise InvalidParameterError("every split must have been trained with the same seeds")
    pools = {split: [_pool(seeds[seed]) for seed in sorted(seeds)] for split, seeds in sorted(table.items())}
    for split, each in pools.items():
        if any(pool.ids != each[0].ids for pool in each):
            raise InvalidParameterError(
                f"the seeds of split {split!r} were judged on different clips, expected the same ones: "
                "finish every fold of every seed first"
            )
    return pools


def _pool(parts: Sequence[Judgement]) -> Pool:
    parts = sorted(parts, key=lambda one: one.part)
    return Pool(
        tuple(video_id for one in parts for video_id in one.scores.ids),
        np.concatenate([one.scores.labels for one in parts]),
        {name: np.concatenate([one.fused[name] for one in parts]) for name in parts[0].fused},
    )


def _answers(
    name: str, pools: Mapping[str, Sequence[Pool]]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.str_]]:
    """Return answers (seeds, clips), each clip's weight, and its id; weights make splits count alike."""
    answers = [[correct_answers(pool.fused[name], pool.labels) for pool in seeds] for seeds in pools.values()]
    ids = [seeds[0].ids for seeds in pools.values()]
    whole = sum(len(one) for one in ids)
    weights = [np.full(len(one), whole / (len(ids) * len(one))) for one in ids]
    rows = np.concatenate([np.stack(seeds) for seeds in answers], axis=1)
    return rows, np.concatenate(weights), np.concatenate([np.array(one) for one in ids])


def _row(name: str, pools: Mapping[str, Sequence[Pool]]) -> FusionRow:
    answers, weights, clips = _answers(name, pools)
    interval = bootstrap_interval(answers * weights, clusters=clips)
    per_seed = (answers * weights).mean(axis=1)
    each = [pool for seeds in pools.values() for pool in seeds]
    return FusionRow(
        top1=interval.estimate,
        mean_class=float(np.mean([mean_class_accuracy(pool.fused[name], pool.labels) for pool in each])),
        interval=(interval.low, interval.high),
        spread=float(per_seed.std(ddof=1)) if len(per_seed) > 1 else math.nan,
        calibration_error=float(np.mean([_calibration_error(name, pool) for pool in each])),
    )


def _calibration_error(name: str, pool: Pool) -> float:
    if name == ORACLE:
        return math.nan
    return calibration(probabilities_of(name, pool.fused[name]), pool.labels).error


def results_json(judgements: Sequence[Judgement], **context: Any) -> dict[str, Any]:
    """Return the content of `results.json`: the table, the gains and each trial, and `context`.

    NaN becomes null.
    """
    rows = fusion_rows(judgements)
    content = {
        "format": FORMAT,
        "fusions": {name: dataclasses.asdict(row) for name, row in rows.items()},
        "gains": [dataclasses.asdict(gain) for gain in gains(judgements)],
        "headroom_share": _headroom(rows),
        "trials": [_trial(one) for one in judgements],
        **context,
    }
    plain: dict[str, Any] = _without_nan(content)
    return plain


def _headroom(rows: Mapping[str, FusionRow]) -> float:
    if GATING not in rows or ORACLE not in rows:
        return math.nan
    return headroom_share(rows[GATING].top1, rows[BASELINE].top1, rows[ORACLE].top1)


def _trial(one: Judgement) -> dict[str, Any]:
    labels = one.scores.labels
    return {
        "split": one.split,
        "part": one.part,
        "kind": one.kind,
        "seed": one.seed,
        "clips": len(one.scores),
        "fusions": {
            name: {"top1": top1(scores, labels), "mean_class": mean_class_accuracy(scores, labels)}
            for name, scores in one.fused.items()
        },
        "search_share": one.search_share,
        "validation": dict(one.validation),
        "prefers_gate": one.prefers_gate,
        "gates": None if one.gates is None else dataclasses.asdict(one.gates),
        "fallbacks": one.fallbacks,
        "mcnemar": None if one.test is None else dataclasses.asdict(one.test),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value
