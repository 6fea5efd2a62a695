"""One trial's verdict: every fusion fitted on held-out clips, and applied to the test clips once.

A trial is one split (or one fold of it) and one seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gating.clip_scores import ClipScores
from gating.errors import ScoresError
from gating.fusions import FUSIONS, Search, build_fusion, softmax
from gating.models.gate import GateSummary, summarise
from gating.statistics import McNemar, correct_answers, mcnemar, top1

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


def probabilities_of(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a fusion's probabilities (N, C) from its scores."""
    if name in _SUMS_OF_PROBABILITIES:
        total: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
        return total
    return softmax(scores)
