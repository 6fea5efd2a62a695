"""From comparisons to the table: what means, intervals and gains are over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from gating.config import GATING
from gating.evaluation.comparison import TrialComparison, fusion_rows, gains, pooled
from tests.make.scores import made_comparison

CLASSES = ("up", "down", "still")


def clips(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{k}" for k in range(count)]


def test_without_a_gate_there_is_nothing_to_prefer() -> None:
    without = made_comparison(clips(12), CLASSES, gate=False)
    assert GATING not in without.fused
    assert (without.prefers_gate, without.gates, without.fallbacks, without.test) == (False, None, 0, None)
    assert gains([without]) == []


def test_gates_that_are_both_zero_count_as_fallbacks() -> None:
    one = made_comparison(clips(12), CLASSES)
    assert one.scores.gates is not None
    gates = np.where(np.arange(12)[:, None] < 5, 0.0, one.scores.gates + 0.1)
    changed = dataclasses.replace(one, scores=dataclasses.replace(one.scores, gates=gates))
    assert changed.fallbacks == 5


def predicting(right: Sequence[bool], *, split: str, part: str = "test", seed: int = 0) -> TrialComparison:
    """A comparison whose gate is right as given and whose every other fusion is always wrong."""
    one = made_comparison([f"{split}{part}{k}" for k in range(len(right))], CLASSES, split=split, part=part)
    labels = one.scores.labels
    wrong = np.eye(3)[(labels + 1) % 3]
    gate = np.where(np.array(right)[:, None], np.eye(3)[labels], wrong)
    return dataclasses.replace(one, seed=seed, fused={**dict.fromkeys(one.fused, wrong), GATING: gate})


def test_splits_count_alike_whatever_their_sizes() -> None:
    trials = [predicting([True] * 3, split="small"), predicting([False] * 9, split="large")]
    assert fusion_rows(trials)[GATING].top1 == pytest.approx(0.5)
    assert next(gain for gain in gains(trials) if gain.baseline == "search").mean == pytest.approx(0.5)


def test_folds_of_a_split_are_one_test_set() -> None:
    trials = [
        predicting([True] * 3, split="s", part="fold0"),
        predicting([False] * 9, split="s", part="fold1"),
    ]
    assert fusion_rows(trials)[GATING].top1 == pytest.approx(0.25)
    (pool,) = pooled(trials)["s"]
    assert len(pool.ids) == 12


def test_spread_is_over_seeds() -> None:
    trials = [
        predicting([True, True, False, False], split="s", seed=0),
        predicting([True, True, True, True], split="s", seed=1),
    ]
    row = fusion_rows(trials)[GATING]
    assert row.top1 == 0.75
    assert row.spread == pytest.approx(math.sqrt(0.125))
    assert gains(trials)[0].per_seed == (0.5, 1.0)
    assert math.isnan(fusion_rows(trials[:1])[GATING].spread)


def test_splits_of_other_seeds_are_refused() -> None:
    trials = [predicting([True], split="a", seed=0), predicting([True], split="b", seed=1)]
    with pytest.raises(InvalidParameterError, match="same seeds"):
        fusion_rows(trials)


def test_seeds_of_other_clips_are_refused() -> None:
    """A run that was stopped between folds must not pair one clip's prediction with another's."""
    trials = [
        predicting([True] * 3, split="s", part="fold0", seed=0),
        predicting([True] * 3, split="s", part="fold1", seed=1),
    ]
    with pytest.raises(InvalidParameterError, match="different clips"):
        fusion_rows(trials)
