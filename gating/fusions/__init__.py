"""Every fusion that the gate is compared with, from one set of stream scores.

`gating` itself is not here: it sees pictures, and the trainer fits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gating.config import check_choice
from gating.fusions.base import Fusion, FusionData, Scores, softmax
from gating.fusions.fixed import FixedWeights, tsn_weights
from gating.fusions.gmu import Gmu
from gating.fusions.learned import LearnedWeights
from gating.fusions.logistic import Logistic
from gating.fusions.oracle import Oracle
from gating.fusions.score_gate import ScoreGate
from gating.fusions.search import Search

__all__ = ["FUSIONS", "Fusion", "FusionData", "Scores", "Search", "build_fusion", "fuse_all", "softmax"]

FUSIONS: dict[str, Callable[[], Fusion]] = {
    "rgb": lambda: FixedWeights(flow=0.0, rgb=1.0),
    "flow": lambda: FixedWeights(flow=1.0, rgb=0.0),
    "average": lambda: FixedWeights(flow=1.0, rgb=1.0),
    "average-probabilities": lambda: FixedWeights(flow=1.0, rgb=1.0, probabilities=True),
    "weighted": tsn_weights,
    "weighted-probabilities": lambda: tsn_weights(probabilities=True),
    "search": Search,
    "search-probabilities": lambda: Search(probabilities=True),
    "global": lambda: LearnedWeights(per_class=False),
    "per-class": lambda: LearnedWeights(per_class=True),
    "stack": lambda: Logistic(reads="scores"),
    "score-gate": ScoreGate,
    "features": lambda: Logistic(reads="features"),
    "gmu": Gmu,
    "oracle": Oracle,
}


def build_fusion(name: str) -> Fusion:
    """Return a fusion, not yet fitted.

    Raises
    ------
    InvalidParameterError
        `name` is not in `FUSIONS`.
    """
    check_choice("fusion", name, FUSIONS)
    return FUSIONS[name]()


def fuse_all(
    fit_on: FusionData, apply_to: FusionData, *, seed: int, names: Iterable[str] = tuple(FUSIONS)
) -> dict[str, Scores]:
    """Fit each named fusion on held-out clips and return its scores of others, by name.

    Parameters
    ----------
    fit_on
        Clips that the streams did not learn from: a validation part of the training list, or
        out-of-fold scores. Never the test list.
    apply_to
        Such as the test list.
    seed
        Of whatever is random in fitting.
    names
        Some of `FUSIONS`.
    """
    scores = {}
    for name in names:
        fusion = build_fusion(name)
        fusion.fit(fit_on, seed=seed)
        scores[name] = fusion.apply(apply_to)
    return scores
