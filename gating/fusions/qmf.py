"""Weights of each clip by both streams' energies, the late fusion of QMF.

Source: Zhang et al., "Provable Dynamic Fusion for Low-Quality Multimodal Data" (QMF), arXiv 2306.02050, and
its release, GitHub QingyangZhang/QMF, RGBD-scene-recognition/models/QMF.py. The energy of stream m is that of
Liu et al., arXiv 2010.03759, E_m = -T ln sum_c exp(z_m[c] / T), and the fused scores are sum_m w_m z_m with
w_m linear and decreasing in E_m: w_m = -E_m / 10 with T = 1 in the release.

Taken is that rule, as it acts at test. Left out is QMF's training: there the streams learn together with
the fused scores, and a ranking loss makes a clip's confidence follow its loss over the epochs. Here all
fusions of a table share the same finished streams, whose energies are as plain cross-entropy left them; so
this row says what the rule is worth on its own, and not what QMF is.

An energy depends on a constant added to all scores of a clip, which softmax and cross-entropy do not see.
Where it turns a weight negative, the weight is zero here (the release would subtract the stream); a clip
with both at zero gets the fixed weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gating.config import FIXED_WEIGHTS
from gating.fusions.base import Fusion, FusionData, Kind, Scores, both_zero, weigh_clips

# The release's; a common factor of both streams, which sets the confidence of the sum and no prediction.
SCALE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Qmf(Fusion):
    """Each stream's scores times its negative energy of the clip.

    Parameters
    ----------
    temperature : float
        T of the energy, > 0.
    """

    kind = Kind.CONFIDENCE

    temperature: float = 1.0

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn nothing."""

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        return weigh_clips(data, self.clip_weights(data))

    def clip_weights(self, data: FusionData) -> Scores:
        """Return each clip's weights of flow and rgb, float64 (N, 2), >= 0."""
        weights = self._weights(data)
        return np.where(both_zero(weights)[:, None], FIXED_WEIGHTS, weights)

    def fell_back(self, data: FusionData) -> NDArray[np.bool_]:
        """Return a mask of the clips with the fixed weights since no energy was negative, bool (N,)."""
        return both_zero(self._weights(data))

    def _weights(self, data: FusionData) -> Scores:
        both = [negative_energy(scores, self.temperature) for scores in (data.flow, data.rgb)]
        return SCALE * np.maximum(0.0, np.stack(both, axis=1))


def negative_energy(scores: Scores, temperature: float) -> Scores:
    """Return T ln sum_c exp(z[c] / T) of scores (N, classes), float64 (N,)."""
    scaled = scores.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    energy: Scores = temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)))
    return energy
