"""The calibrated average: a temperature for each stream, then equal weights.

Source: Guo et al., arXiv 1706.04599, section 4.2, equation 9: a stream's probabilities are
softmax(z / T), T by the negative log likelihood of held-out clips. It changes no prediction of a stream
alone, and puts both streams' scores on one scale before they are added.

The likelihood alone has no optimum where the held-out scores are separable (T falls to 0) or know nothing of
the labels (T rises without end). So a prior with the weight of one clip is added to it, a gamma density of
b = 1 / T with its mode at 1:

    minimise  sum_i CE(b z_i, y_i)  +  b - ln b

which is strictly convex in b and infinite at both ends. Its one optimum is where T = 1 + sum_i (E_i -
z_i[y_i]), with E_i the mean of clip i's scores by its calibrated probabilities: T is at most 1 + the sum of
the clips' ranges of scores, and falls for separable clips only until the sum of z_i[y_i] - E_i is below 1.
With more clips the prior fades.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores, Sums, softmax
from gating.fusions.learned import minimise


@dataclasses.dataclass(kw_only=True, slots=True)
class Calibrated(Fusion):
    """The mean of both streams' calibrated log odds z / T, or of their calibrated probabilities.

    Attributes
    ----------
    sums : {"scores", "probabilities"}
        Log odds: the geometric mean of the streams' probabilities. Probabilities: their mean.
    temperatures : (float, float) or None
        Of flow and rgb, > 0; above 1 for a stream that is too sure of itself.
    """

    kind = Kind.LEARNED

    sums: Sums = "scores"
    temperatures: tuple[float, float] | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Fit each stream's temperature; convex, so that no seed counts."""
        self.temperatures = temperature(data.flow, data.labels), temperature(data.rgb, data.labels)

    def apply(self, data: FusionData) -> Scores:
        """Return the mean of both streams, float64 (N, classes)."""
        flow, rgb = (scores / T for scores, T in zip((data.flow, data.rgb), self._fitted(), strict=True))
        if self.sums == "probabilities":
            flow, rgb = softmax(flow), softmax(rgb)
        mean: Scores = (flow + rgb) / 2
        return mean.astype(np.float64)

    def clip_weights(self, data: FusionData) -> Scores:
        """Return the weights of the scores, or of the calibrated probabilities, float64 (N, 2)."""
        fitted = np.array(self._fitted())
        weights = 0.5 / fitted if self.sums == "scores" else np.full(2, 0.5)
        return np.tile(weights, (len(data.flow), 1))

    def _fitted(self) -> tuple[float, float]:
        if self.temperatures is None:
            raise NotFittedError(self)
        return self.temperatures


def temperature(scores: Scores, labels: NDArray[np.int64]) -> float:
    """Return the temperature T > 0 of scores (N, classes), by the module's objective."""
    given, targets = torch.from_numpy(scores).double(), torch.from_numpy(labels)
    # ln b has no bound to keep to, and b's objective has one minimum on any increasing scale.
    log_b = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        prior = (log_b.exp() - log_b) / len(targets)
        return F.cross_entropy(log_b.exp() * given, targets) + prior

    minimise([log_b], loss)
    return float((-log_b.detach()).exp())
