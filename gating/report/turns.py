"""Clips whose answer turned: right by the gate and wrong by the best fixed weights, or the reverse."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from gating.config import BASELINE, GATING
from gating.evaluation.comparison import Comparison
from gating.fusions import softmax
from gating.statistics import correct_predictions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One clip of one split whose answer turned in more seeds one way than the other.

    Attributes
    ----------
    judgement, row
        The trial where it turned by most, and the clip's place in it.
    saved, lost, seeds : int
        In how many seeds it was saved and lost, of how many.
    margin : float
        By how much the gate's probability of the label is above (lost: below) the fixed weights'.
    """

    judgement: Comparison
    row: int
    saved: int
    lost: int
    seeds: int
    margin: float

    @property
    def video_id(self) -> str:
        """The clip's."""
        return self.judgement.scores.ids[self.row]

    @property
    def is_saved(self) -> bool:
        """Whether the gate saved the answer, in most seeds."""
        return self.saved > self.lost


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What one trial says of one clip: change is 1 if saved, -1 if lost."""

    judgement: Comparison
    row: int
    change: int
    margin: float


def find_turns(judgements: Sequence[Comparison]) -> list[Turn]:
    """Return the clips that turned, those first that did so in most seeds and by most.

    Every judgement must have a gate.
    """
    of_clip: dict[tuple[str, str], list[_Answer]] = defaultdict(list)
    for one in judgements:
        for answer in _answers(one):
            of_clip[one.split, one.scores.ids[answer.row]].append(answer)
    turns = [_turn(answers) for answers in of_clip.values() if sum(one.change for one in answers)]
    return sorted(turns, key=lambda turn: (-abs(turn.saved - turn.lost) / turn.seeds, -turn.margin))


def choose(turns: Iterable[Turn], count: int) -> tuple[list[Turn], list[Turn]]:
    """Return up to `count` of them, saved and lost: half each, or more of one where the other has few."""
    turns = list(turns)
    saved = [turn for turn in turns if turn.is_saved]
    lost = [turn for turn in turns if not turn.is_saved]
    half = count // 2
    n_saved = min(len(saved), max(count - half, count - len(lost)))
    return saved[:n_saved], lost[: count - n_saved]


def _answers(one: Comparison) -> list[_Answer]:
    labels = one.scores.labels
    right = {name: correct_predictions(one.fused[name], labels) for name in (GATING, BASELINE)}
    change = right[GATING].astype(int) - right[BASELINE]
    rows = np.arange(len(labels))
    margins = softmax(one.fused[GATING])[rows, labels] - softmax(one.fused[BASELINE])[rows, labels]
    return [
        _Answer(one, row, int(change[row]), float(margins[row]) * int(change[row])) for row in rows.tolist()
    ]


def _turn(answers: Sequence[_Answer]) -> Turn:
    saved = sum(one.change > 0 for one in answers)
    lost = sum(one.change < 0 for one in answers)
    way = 1 if saved > lost else -1
    plainest = max((one for one in answers if one.change == way), key=lambda one: one.margin)
    return Turn(
        judgement=plainest.judgement,
        row=plainest.row,
        saved=saved,
        lost=lost,
        seeds=len(answers),
        margin=plainest.margin,
    )
