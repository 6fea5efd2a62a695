"""All fusions of one set of scores and features: the gate, its baselines, and a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowkit.validate import check_choice
from gating.config import BASELINE, GATING, ORACLE
from gating.fusions.attention import Attention
from gating.fusions.base import Fusion, FusionData, Kind, Scores, softmax
from gating.fusions.calibrated import Calibrated
from gating.fusions.fixed import FixedWeights, Oracle, Search, tsn_weights
from gating.fusions.gating import Gating
from gating.fusions.gmu import Gmu
from gating.fusions.learned import LearnedWeights
from gating.fusions.logistic import Logistic
from gating.fusions.pdf import Pdf
from gating.fusions.qmf import Qmf
from gating.fusions.score_gate import ScoreGate

__all__ = [
    "FUSIONS",
    "Fusion",
    "FusionData",
    "Kind",
    "Scores",
    "build_fusion",
    "in_order",
    "kind_of",
    "probabilities_of",
    "softmax",
]

FUSIONS: dict[str, Callable[[], Fusion]] = {
    "rgb": lambda: FixedWeights(flow=0.0, rgb=1.0),
    "flow": lambda: FixedWeights(flow=1.0, rgb=0.0),
    "average": lambda: FixedWeights(flow=1.0, rgb=1.0),
    "average-probabilities": lambda: FixedWeights(flow=1.0, rgb=1.0, sums="probabilities"),
    "weighted": tsn_weights,
    "weighted-probabilities": lambda: tsn_weights(sums="probabilities"),
    BASELINE: Search,
    "search-probabilities": lambda: Search(sums="probabilities"),
    "qmf": Qmf,
    "global": lambda: LearnedWeights(per_class=False),
    "per-class": lambda: LearnedWeights(per_class=True),
    "calibrated": Calibrated,
    "calibrated-probabilities": lambda: Calibrated(sums="probabilities"),
    "stack": lambda: Logistic(reads="scores"),
    "score-gate": ScoreGate,
    "pdf": Pdf,
    "features": lambda: Logistic(reads="features"),
    "gmu": Gmu,
    "attention": Attention,
    ORACLE: Oracle,
    GATING: Gating,
}
"""One line a fusion, in the order of tables within each kind."""


def build_fusion(name: str) -> Fusion:
    """Return a fusion, not yet fitted.

    Raises
    ------
    InvalidParameterError
        `name` is not in `FUSIONS`.
    """
    check_choice("fusion", name, FUSIONS)
    return FUSIONS[name]()


def kind_of(name: str) -> Kind:
    """Return a fusion's kind; `Kind.OTHER` for a name that is not in `FUSIONS`."""
    return build_fusion(name).kind if name in FUSIONS else Kind.OTHER


def in_order(names: Iterable[str]) -> list[str]:
    """Return fusions in the order of tables: by kind, and by `FUSIONS` within each; bounds come last."""
    known = [*FUSIONS]
    kinds = [*Kind]
    return sorted(
        names, key=lambda name: (kinds.index(kind_of(name)), known.index(name) if name in known else 0)
    )


def probabilities_of(name: str, scores: Scores) -> Scores:
    """Return probabilities, float64 (N, classes), of the scores of a fusion of any name."""
    return build_fusion(name).to_probabilities(scores) if name in FUSIONS else softmax(scores)
