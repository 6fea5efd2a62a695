"""Fusions compared on out-of-fold scores: none is fitted on the clips that it is applied to."""

from __future__ import annotations

import numpy as np
import pytest

from gating.errors import ScoresError
from gating.evaluation.out_of_fold import compare_out_of_fold
from gating.fusions import build_fusion
from tests.make.scores import CHEAP, made_scores

IDS = [f"clip{k}" for k in range(24)]
FOLDS = (IDS[:10], IDS[10:15], IDS[15:])
SCORES = made_scores(IDS, ("a", "b", "c"))


def test_a_fusion_is_fitted_on_the_other_folds() -> None:
    found = compare_out_of_fold(SCORES, FOLDS, names=(*CHEAP, "per-class", "gating"))
    others, held = np.arange(10, 24), np.arange(10)
    for name in ("per-class", "search"):
        fusion = build_fusion(name)
        fusion.fit(SCORES.of_rows(others).fusion_data(), seed=0)
        expected = fusion.apply(SCORES.of_rows(held).fusion_data())
        assert np.array_equal(found.fused[name][:10], expected)
    assert np.array_equal(found.fused["flow"], SCORES.flow)
    assert SCORES.gated is not None
    assert np.array_equal(found.fused["gating"], SCORES.gated)
    assert (found.kind, found.part, found.is_out_of_fold) == ("all", "all", True)


def test_fusions_that_read_features_are_left_out_without_them() -> None:
    scores = made_scores(IDS, ("a", "b"), features=False, gate=False)
    found = compare_out_of_fold(scores, FOLDS, names=("features", "gating", "average"))
    assert list(found.fused) == ["average", "search"]
    assert list(found.validation) == ["search"]


@pytest.mark.parametrize("folds", [(IDS,), (IDS[:10], IDS[9:]), (IDS[:10], IDS[11:])])
def test_folds_of_other_clips_are_refused(folds: tuple[list[str], ...]) -> None:
    with pytest.raises(ScoresError, match="each of the 24 clips once"):
        compare_out_of_fold(SCORES, folds)
