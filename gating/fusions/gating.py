"""The gating ConvNet among the fusions: it reads the clips' images, and training has fitted it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from gating.config import FIXED_WEIGHTS
from gating.fusions.base import Fusion, FusionData, Kind, Scores, both_zero


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gating(Fusion):
    """The trained gate's own scores and weights, as they came with the clips.

    Parameters
    ----------
    fixed : (float, float)
        Weights of flow and rgb that a clip gets whose gates are both zero.
    """

    kind = Kind.GATE
    needs = frozenset({"images"})

    fixed: tuple[float, float] = FIXED_WEIGHTS

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn nothing more."""

    def apply(self, data: FusionData) -> Scores:
        """Return the gate's fused scores, float64 (N, classes)."""
        if data.gated is None:
            raise InvalidParameterError("gating needs the trained gate's scores of the clips, got none")
        return data.gated

    def clip_weights(self, data: FusionData) -> Scores | None:
        """Return each clip's gates, float64 (N, 2), the fixed weights where both are zero."""
        if data.gates is None:
            return None
        return np.where(self.fell_back(data)[:, None], self.fixed, data.gates)

    def fell_back(self, data: FusionData) -> NDArray[np.bool_]:
        """Return a mask of the clips with the fixed weights since both gates were zero, bool (N,)."""
        if data.gates is None:
            return np.zeros(len(data.flow), bool)
        return both_zero(data.gates)
