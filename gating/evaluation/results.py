"""A trial's judgement on disk: the scores of its test clips, the fused scores, and its few numbers."""

from __future__ import annotations

import json
from pathlib import Path

from gating.config import BASELINE
from gating.errors import ScoresError
from gating.evaluation.judge import Judgement
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

_NUMBERS = ("split", "part", "kind", "seed", "search_share", "validation")


def write_judgement(trial: Path, judgement: Judgement) -> None:
    """Write what `read_judgement` reads, but for the scores, which are written as they are made."""
    write_arrays(trial / FUSED, judgement.fused)
    write_json(trial / COMPARISON, {name: getattr(judgement, name) for name in _NUMBERS})


def read_judgement(trial: Path) -> Judgement:
    """Return a trial's judgement.

    Raises
    ------
    ScoresError
        A file is absent or damaged, or they do not speak of the same clips.
    """
    scores: ClipScores = load_scores(scores_path(trial, "test"))
    try:
        numbers = json.loads((trial / COMPARISON).read_text(encoding="utf-8"))
        fused = read_arrays(trial / FUSED)
        judgement = Judgement(scores=scores, fused=fused, **numbers)
    except DAMAGE as error:
        raise ScoresError(
            f"{trial} holds no judgement: {error}; make it again with `flowkit eval`"
        ) from error
    if BASELINE not in fused or any(one.shape != scores.flow.shape for one in fused.values()):
        raise ScoresError(
            f"{trial}: {FUSED} must hold {BASELINE!r}, and of each fusion scores {scores.flow.shape} as "
            "test.npz has; make it again with `flowkit eval`"
        )
    return judgement


def read_judgements(out: Path) -> list[Judgement]:
    """Return the judgements of all finished trials of a run's folder, by path.

    Raises
    ------
    ScoresError
        There is none.
    """
    return [read_judgement(trial) for trial in compared_trials(out)]
