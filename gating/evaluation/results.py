"""A trial's comparison on disk, and the content of `results.json` over all trials of a run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gating.config import BASELINE, GATING, ORACLE
from gating.errors import ScoresError
from gating.evaluation.comparison import FusionRow, TrialComparison, fusion_rows, gains
from gating.evaluation.scores import ClipScores, load_scores
from gating.run_folder import (
    COMPARISON,
    DAMAGE,
    FUSED,
    compared_trials,
    read_arrays,
    scores_path,
    write_arrays,
    write_json,
)
from gating.statistics import headroom_share, mean_class_accuracy, top1

FORMAT = "flowkit-results 1"
_NUMBERS = ("split", "part", "kind", "seed", "search_share", "validation")


def write_comparison(trial: Path, comparison: TrialComparison) -> None:
    """Write what `read_comparison` reads, but for the scores, which are written as they are made."""
    write_arrays(trial / FUSED, comparison.fused)
    write_json(trial / COMPARISON, {name: getattr(comparison, name) for name in _NUMBERS})


def read_comparison(trial: Path) -> TrialComparison:
    """Return a trial's comparison.

    Raises
    ------
    ScoresError
        A file is absent or damaged, or they are not of the same clips.
    """
    scores: ClipScores = load_scores(scores_path(trial, "test"))
    try:
        numbers = json.loads((trial / COMPARISON).read_text(encoding="utf-8"))
        fused = read_arrays(trial / FUSED)
        comparison = TrialComparison(scores=scores, fused=fused, **numbers)
    except DAMAGE as error:
        raise ScoresError(
            f"{trial} holds no comparison: {error}; make it again with `flowkit eval`"
        ) from error
    if BASELINE not in fused or any(one.shape != scores.flow.shape for one in fused.values()):
        raise ScoresError(
            f"{trial}: {FUSED} must hold {BASELINE!r}, and of each fusion scores {scores.flow.shape} as "
            "test.npz has; make it again with `flowkit eval`"
        )
    return comparison


def read_comparisons(out: Path) -> list[TrialComparison]:
    """Return the comparisons of all finished trials of a run's folder, by path.

    Raises
    ------
    ScoresError
        There is none.
    """
    return [read_comparison(trial) for trial in compared_trials(out)]


def results_json(comparisons: Sequence[TrialComparison], **context: Any) -> dict[str, Any]:
    """Return the content of `results.json`: the table, the gains and each trial, and `context`.

    NaN becomes null.
    """
    rows = fusion_rows(comparisons)
    content = {
        "format": FORMAT,
        "fusions": {name: dataclasses.asdict(row) for name, row in rows.items()},
        "gains": [dataclasses.asdict(gain) for gain in gains(comparisons)],
        "headroom_share": _headroom(rows),
        "trials": [_trial(one) for one in comparisons],
        **context,
    }
    plain: dict[str, Any] = _without_nan(content)
    return plain


def _headroom(rows: Mapping[str, FusionRow]) -> float:
    if GATING not in rows or ORACLE not in rows:
        return math.nan
    return headroom_share(rows[GATING].top1, rows[BASELINE].top1, rows[ORACLE].top1)


def _trial(one: TrialComparison) -> dict[str, Any]:
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
