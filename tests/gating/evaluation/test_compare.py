"""Fusions of one trial: each is fitted on the clips that it may learn from, and on no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from gating.config import GATING, ORACLE
from gating.errors import ScoresError
from gating.evaluation.compare import compare_fusions
from gating.evaluation.comparison import TrialComparison
from gating.evaluation.scores import ClipScores
from tests.make.scores import made_scores

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
