"""The clips that the fusions of a trial are fitted on, and means, intervals and gains of the table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InvalidParameterError
from gating.config import GATING, ORACLE
from gating.errors import ScoresError
from gating.evaluation.comparison import (
    TrialComparison,
    chosen_row,
    compare_fusions,
    fusion_rows,
    gains,
    pooled,
)
from gating.evaluation.results import fusion_results
from gating.evaluation.scores import ClipScores
from tests.make.scores import made_comparison, made_scores

CLASSES = ("up", "down", "still")
LEARNED = ("search", "global", "per-class", "stack", "features", "oracle")


def clips(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{k}" for k in range(count)]


def compared(
    test: ClipScores, fit_on: ClipScores, validation: ClipScores, names: Sequence[str] = LEARNED
) -> TrialComparison:
    return compare_fusions(test, fit_on=fit_on, validation=validation, split="s", names=names)


@pytest.fixture
def test_clips() -> ClipScores:
    return made_scores(clips(24), CLASSES, seed=0)


@pytest.fixture
def held() -> ClipScores:
    return made_scores(clips(36, "h"), CLASSES, seed=1)


@pytest.fixture
def validation() -> ClipScores:
    return made_scores(clips(30, "v"), CLASSES, seed=2)


def shuffled(scores: ClipScores) -> ClipScores:
    return dataclasses.replace(scores, labels=(scores.labels + 1) % len(scores.classes))


def test_labels_of_the_test_clips_change_the_oracle_alone(
    test_clips: ClipScores, held: ClipScores, validation: ClipScores
) -> None:
    one, other = (compared(test, held, validation) for test in (test_clips, shuffled(test_clips)))
    changed = {name for name in one.fused if not np.array_equal(one.fused[name], other.fused[name])}
    assert changed == {ORACLE}
    assert (one.search_fraction, one.validation) == (other.search_fraction, other.validation)


def test_baselines_are_fitted_on_the_held_out_clips(
    test_clips: ClipScores, held: ClipScores, validation: ClipScores
) -> None:
    one, other = (compared(test_clips, fit, validation) for fit in (held, shuffled(held)))
    for name in ("global", "per-class", "stack", "features"):
        assert not np.array_equal(one.fused[name], other.fused[name]), name


def test_validation_labels_fit_nothing_where_held_out_clips_have_features(
    test_clips: ClipScores, held: ClipScores, validation: ClipScores
) -> None:
    one, other = (compared(test_clips, held, clips) for clips in (validation, shuffled(validation)))
    for name in one.fused:
        np.testing.assert_array_equal(one.fused[name], other.fused[name])


def test_features_are_fitted_on_validation_where_out_of_fold_streams_gave_the_scores(
    test_clips: ClipScores, held: ClipScores, validation: ClipScores
) -> None:
    folds = dataclasses.replace(held, flow_features=None, rgb_features=None)
    whole = compared(test_clips, validation, validation)
    mixed = compared(test_clips, folds, validation)
    np.testing.assert_array_equal(mixed.fused["features"], whole.fused["features"])
    assert not np.array_equal(mixed.fused["stack"], whole.fused["stack"])


def test_search_is_compared_even_if_it_is_not_asked_for(
    test_clips: ClipScores, held: ClipScores, validation: ClipScores
) -> None:
    assert set(compared(test_clips, held, validation, ["rgb"]).fused) == {"rgb", "search", GATING}


def test_clips_without_a_label_are_refused(test_clips: ClipScores, held: ClipScores) -> None:
    unknown = dataclasses.replace(held, labels=np.where(np.arange(36) < 2, -1, held.labels))
    with pytest.raises(ScoresError, match="fit_on has 2 clips without a label"):
        compared(test_clips, unknown, held)


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


def test_the_row_of_the_chosen_has_each_trials_own_choice() -> None:
    def choosing(gate: float, right: list[bool], part: str) -> TrialComparison:
        one = predicting(right, split="s", part=part)
        return dataclasses.replace(one, validation={"search": 0.5, GATING: gate})

    trials = [choosing(0.9, [True] * 3, "fold0"), choosing(0.1, [True] * 9, "fold1")]
    assert [one.chosen() for one in trials] == [GATING, "search"]
    assert [one.chosen("average") for one in trials] == ["average"] * 2
    # The gate is right everywhere, and fixed weights nowhere.
    assert chosen_row(trials).top1 == pytest.approx(0.25)
    assert fusion_results(trials).fusions["chosen"].top1 == pytest.approx(0.25)
    row = fusion_rows(trials)[GATING]
    assert row.per_class == (1.0, 1.0, 1.0)
    assert row.top5 == 1.0  # three classes


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
