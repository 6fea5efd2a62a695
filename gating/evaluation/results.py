"""A trial's judgement on disk: three files of scores, one of the fused scores, and its few numbers.

::

    <trial>/scores/test.npz validation.npz fit.npz     `gating.evaluation.scores`
    <trial>/fused.npz                                  one float64 array (N, C) a fusion
    <trial>/judgement.json                             split, part, kind, seed, search_share, validation
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from gating.errors import ScoresError
from gating.evaluation.judge import BASELINE, Judgement
from gating.evaluation.scores import DAMAGE, ClipScores, load_scores, read_arrays

NAME = "judgement.json"
_NUMBERS = ("split", "part", "kind", "seed", "search_share", "validation")


def scores_path(trial: Path, part: str) -> Path:
    """Return where the scores of "test", "validation" or "fit" lie."""
    return trial / "scores" / f"{part}.npz"


def write_judgement(trial: Path, judgement: Judgement) -> None:
    """Write what `read_judgement` reads, but for the scores, which are written as they are made."""
    np.savez_compressed(trial / "fused.npz", allow_pickle=False, **dict(judgement.fused))
    numbers = {name: getattr(judgement, name) for name in _NUMBERS}
    temporary = trial / f"{NAME}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    temporary.replace(trial / NAME)


def read_judgement(trial: Path) -> Judgement:
    """Return a trial's judgement.

    Raises
    ------
    ScoresError
        A file is absent or damaged, or they do not speak of the same clips.
    """
    scores: ClipScores = load_scores(scores_path(trial, "test"))
    try:
        numbers = json.loads((trial / NAME).read_text(encoding="utf-8"))
        fused = read_arrays(trial / "fused.npz")
        judgement = Judgement(scores=scores, fused=fused, **numbers)
    except DAMAGE as error:
        raise ScoresError(
            f"{trial} holds no judgement: {error}; make it again with `flowkit eval`"
        ) from error
    if BASELINE not in fused or any(one.shape != scores.flow.shape for one in fused.values()):
        raise ScoresError(
            f"{trial}: fused.npz must hold {BASELINE!r}, and of each fusion scores {scores.flow.shape} as "
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
    found = sorted(path.parent for path in out.glob(f"*/seed*/{NAME}"))
    if not found:
        raise ScoresError(f"{out} holds no finished trial; run `flowkit train --out {out}` or `flowkit eval`")
    return [read_judgement(trial) for trial in found]
