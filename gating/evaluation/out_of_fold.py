"""All fusions on training clips, each fitted without the clips that it is applied to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gating.config import ALL, BASELINE
from gating.errors import ScoresError
from gating.evaluation.comparison import TrialComparison, flow_fraction, judged
from gating.evaluation.scores import ClipScores
from gating.fusions import FUSIONS, Fusion, FusionData, Scores, build_fusion
from gating.statistics import top1


def compare_out_of_fold(
    scores: ClipScores,
    folds: Sequence[Sequence[str]],
    *,
    split: str = ALL,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> TrialComparison:
    """Cross-fit every fusion on held-out scores: of each fold by a fusion that was fitted on the others.

    Parameters
    ----------
    scores
        Of all training clips, by networks that did not learn from them; the gate's too, where there is one.
        Fusions that read features are left out where the scores have none.
    folds
        Ids of each fold, two or more, which together are those of the scores.
    split, seed
        Of the comparison.
    names
        Some of `gating.fusions.FUSIONS`, None is all; the baseline is always among them. Of one stream alone
        there is its own row.

    Returns
    -------
    TrialComparison
        Of kind "all". Its best fixed weights are those of all clips; its validation is the cross-fitted
        top-1 of these and the gate.

    Raises
    ------
    ScoresError
        The folds are not of these clips, or a clip has no label.
    """
    parts = _rows_of(scores, folds)
    data = scores.fusion_data()
    lone = scores.lone_stream
    asked = [lone] if lone else [*dict.fromkeys([*(FUSIONS if names is None else names), BASELINE])]
    offered = [name for name in asked if data.offers(build_fusion(name).needs)]
    fused = {name: _cross_fitted(name, scores, parts, seed=seed) for name in offered}
    search = build_fusion(lone or BASELINE)
    search.fit(data, seed=seed)
    return TrialComparison(
        split=split,
        part=ALL,
        kind="all",
        seed=seed,
        scores=scores,
        fused=fused,
        search_fraction=flow_fraction({lone or BASELINE: search}),
        validation={name: top1(fused[name], data.labels) for name in judged(fused)},
    )


def _rows_of(scores: ClipScores, folds: Sequence[Sequence[str]]) -> list[np.ndarray]:
    row = {video_id: k for k, video_id in enumerate(scores.ids)}
    listed = [video_id for ids in folds for video_id in ids]
    if len(folds) < 2 or sorted(listed) != sorted(scores.ids):
        raise ScoresError(
            f"folds must be two or more and have each of the {len(scores)} clips once, got {len(folds)} "
            f"folds of {len(listed)} clips"
        )
    if (scores.labels < 0).any():
        raise ScoresError(f"scores have {(scores.labels < 0).sum()} clips without a label, expected none")
    return [np.array([row[video_id] for video_id in ids], np.intp) for ids in folds]


def _cross_fitted(name: str, scores: ClipScores, parts: Sequence[np.ndarray], *, seed: int) -> Scores:
    """Return a fusion's scores, float64 (N, C), of each part by one fitted on the others."""
    found = np.empty((len(scores), len(scores.classes)))
    for held in parts:
        others = np.setdiff1d(np.arange(len(scores)), held)
        fusion: Fusion = build_fusion(name)
        fusion.fit(_data(scores, others), seed=seed)
        found[held] = fusion.apply(_data(scores, held))
    return found


def _data(scores: ClipScores, rows: np.ndarray) -> FusionData:
    return scores.of_rows(rows).fusion_data()
