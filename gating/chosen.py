"""Which fusion a finished trial answers with: the gate if validation preferred it, else fixed weights."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING, ORACLE
from gating.evaluation.judge import Judgement, probabilities_of
from gating.evaluation.results import read_judgement
from gating.evaluation.scores import ClipScores, load_scores
from gating.fusions import Fusion, Search, build_fusion
from gating.fusions.fixed import FixedWeights
from gating.run_folder import TrialRecord, scores_path

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChosenFusion:
    """A fusion that can be applied to new clips.

    Attributes
    ----------
    name : str
        "gating", "search", or what the run was trained for.
    reason : str
        Why it is this one.
    fusion : Fusion or None
        Fitted; None for the gate, whose scores come with the clips'.
    fixed : (float, float)
        Weights of flow and rgb that a clip gets whose gates are both zero.
    """

    name: str
    reason: str
    fusion: Fusion | None
    fixed: tuple[float, float]

    def probabilities(self, clips: ClipScores) -> Array:
        """Return each clip's probabilities, (N, classes)."""
        if self.fusion is None:
            assert clips.gated is not None, "the trial that chose the gate has one"
            return probabilities_of(self.name, clips.gated)
        return probabilities_of(self.name, self.fusion.apply(clips.fusion_data()))

    def weights(self, clips: ClipScores) -> Array | None:
        """Return each clip's weights of flow and rgb, (N, 2); None where the fusion has no such pair."""
        if isinstance(self.fusion, FixedWeights):
            return np.tile([self.fusion.flow, self.fusion.rgb], (len(clips), 1))
        if isinstance(self.fusion, Search):
            share = self.fusion.share or 0.0
            return np.tile([share, 1 - share], (len(clips), 1))
        if self.fusion is not None or clips.gates is None:
            return None
        return np.where(self.fell_back(clips)[:, None], self.fixed, clips.gates)

    def fell_back(self, clips: ClipScores) -> NDArray[np.bool_]:
        """Return which clips got the fixed weights since both gates were zero, (N,)."""
        if self.fusion is not None or clips.gates is None:
            return np.zeros(len(clips), bool)
        return np.asarray((clips.gates <= 0).all(axis=1))


def choose_fusion(record: TrialRecord) -> ChosenFusion:
    """Return the fusion that a trial's validation clips speak for.

    A run that was trained for another fusion than the gate answers with that one.

    Raises
    ------
    ScoresError
        The trial has not been judged.
    """
    judgement = read_judgement(record.folder)
    asked, fixed = record.config.fusion, record.config.net.fixed
    if asked not in (GATING, BASELINE, ORACLE):  # the oracle reads labels that new clips lack
        return ChosenFusion(
            name=asked,
            reason=f"the run was trained for --fusion {asked}",
            fusion=_fitted(asked, record),
            fixed=fixed,
        )
    if judgement.prefers_gate:
        return ChosenFusion(name=GATING, reason=_compared(judgement), fusion=None, fixed=fixed)
    reason = _compared(judgement) if asked == GATING else "the run has no gate"
    return ChosenFusion(
        name=BASELINE, reason=reason, fusion=Search(share=judgement.search_share), fixed=fixed
    )


def _compared(judgement: Judgement) -> str:
    gate, search = (100 * judgement.validation[name] for name in (GATING, BASELINE))
    return f"top-1 on the validation clips is {gate:.1f} % with the gate, {search:.1f} % with fixed weights"


def _fitted(name: str, record: TrialRecord) -> Fusion:
    fusion = build_fusion(name)
    fit_on = load_scores(scores_path(record.folder, "fit"))
    fusion.fit(fit_on.fusion_data(), seed=record.config.seed)
    return fusion
