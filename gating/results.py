"""From scores to the table of fusions: one trial's verdicts, and what several seeds and splits say.

A trial is one split (or one fold of it) and one seed. Its rivals are fitted on clips that the
streams did not learn from, and everything is judged on the test clips once.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from gating.clip_scores import ClipScores
from gating.errors import ScoresError
from gating.fusions import FUSIONS, FusionData, Search, build_fusion, softmax
from gating.gate import GateSummary, summarise
from gating.statistics import (
    McNemar,
    bootstrap_interval,
    calibration,
    correct_answers,
    headroom_share,
    mcnemar,
    mean_class_accuracy,
    top1,
)

FORMAT = "flowkit-results 1"
GATING, BASELINE, ORACLE = "gating", "search", "oracle"
# Already on probabilities: a softmax on top would not be their confidence.
_SUMS_OF_PROBABILITIES = ("average-probabilities", "weighted-probabilities", "search-probabilities")
# These read features, which must be of the same networks where they are fitted and where applied.
_READ_FEATURES = ("features", "gmu")

Fused = Mapping[str, NDArray[np.float64]]
SplitKind = Literal["subset", "fold"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a trial's test clips say.

    Attributes
    ----------
    split, part : str
        The split's name, and the part of it that was tested: "test", or a fold.
    kind : {"subset", "fold"}
        Of the split: the folds of one split are judged together.
    seed : int
        Of training.
    scores : ClipScores
        Of the test clips.
    fused : mapping of str to NDArray
        Each fusion's scores, float64 (N, C); "gating" among them where there is a gate.
    search_share : float
        Flow's share of the best fixed weights, [0, 1].
    validation : mapping of str to float
        Top-1 of "search" and "gating" on the validation clips.
    """

    split: str
    part: str
    kind: SplitKind
    seed: int
    scores: ClipScores
    fused: Fused
    search_share: float
    validation: Mapping[str, float]

    @property
    def prefers_gate(self) -> bool:
        """Whether the gate is better than the best fixed weights on the validation clips."""
        return GATING in self.validation and self.validation[GATING] > self.validation[BASELINE]

    @property
    def gates(self) -> GateSummary | None:
        """What the gates of the test clips look like."""
        return None if self.scores.gates is None else summarise(torch.from_numpy(self.scores.gates))

    @property
    def fallbacks(self) -> int:
        """How many test clips got the fixed weights since both gates were zero."""
        return 0 if self.scores.gates is None else int((self.scores.gates <= 0).all(axis=1).sum())

    @property
    def test(self) -> McNemar | None:
        """McNemar's test of the gate (first) against the best fixed weights."""
        if GATING not in self.fused:
            return None
        labels = self.scores.labels
        return mcnemar(*(correct_answers(self.fused[name], labels) for name in (GATING, BASELINE)))


def judge(
    test: ClipScores,
    *,
    fit_on: ClipScores,
    validation: ClipScores,
    split: str,
    part: str = "test",
    kind: SplitKind = "subset",
    seed: int = 0,
    names: Sequence[str] = tuple(FUSIONS),
) -> Judgement:
    """Fit every rival on held-out clips and apply it to the test clips.

    Parameters
    ----------
    test
        Scores of the final streams and of the gate.
    fit_on
        Scores of clips that the streams which gave them did not learn from. Without features (they
        are fold copies' scores) the fusions that read features are fitted on `validation`.
    validation
        Scores of the final streams on clips kept from learning; it says whether the gate is preferred.
    split, part, kind, seed
        Of the judgement.
    names
        Some of `gating.fusions.FUSIONS`; "search" is always among them.

    Raises
    ------
    ScoresError
        A clip has no label.
    """
    for role, clips in (("test", test), ("fit_on", fit_on), ("validation", validation)):
        if (clips.labels < 0).any():
            raise ScoresError(f"{role} has {(clips.labels < 0).sum()} clips without a label, expected none")
    fused: dict[str, NDArray[np.float64]] = {}
    for name in dict.fromkeys([*names, BASELINE]):
        fusion = build_fusion(name)
        reads_features = name in _READ_FEATURES and fit_on.flow_features is None
        fusion.fit((validation if reads_features else fit_on).fusion_data(), seed=seed)
        fused[name] = fusion.apply(test.fusion_data())
        if isinstance(fusion, Search) and name == BASELINE:
            share = float(fusion.share or 0.0)
            chosen = {BASELINE: _top1(fusion.apply(validation.fusion_data()), validation)}
    if test.gated is not None and validation.gated is not None:
        fused[GATING] = test.gated
        chosen[GATING] = _top1(validation.gated, validation)
    return Judgement(
        split=split,
        part=part,
        kind=kind,
        seed=seed,
        scores=test,
        fused=fused,
        search_share=share,
        validation=chosen,
    )


def _top1(scores: NDArray[np.float64], clips: ClipScores) -> float:
    return top1(scores, clips.labels) if len(clips) else math.nan


def search_scores(data: FusionData, share: float) -> NDArray[np.float64]:
    """Return the scores of the best fixed weights, by a judgement's `search_share`."""
    return Search(share=share).apply(data)


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


def probabilities_of(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a fusion's probabilities (N, C) from its scores."""
    if name in _SUMS_OF_PROBABILITIES:
        total: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
        return total
    return softmax(scores)


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
