"""The best fixed weights by a search over their ratio: the honest rival of any learned fusion."""

from __future__ import annotations

import dataclasses

import numpy as np

from gating.fusions.base import FusionData, NotFittedError, Scores
from gating.fusions.fixed import weighted_sum
from gating.statistics import top1

# Flow's share of the two weights; both single streams are among them.
SHARES = np.linspace(0, 1, 101)


@dataclasses.dataclass(kw_only=True, slots=True)
class Search:
    """Fixed weights (share, 1 - share) with the best top-1 accuracy on the data of `fit`.

    Shares often tie: of all the best, the middle one is taken, away from the edges of the range
    where the answers change.
    """

    probabilities: bool = False
    share: float | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Try every share."""
        accuracies = np.array([top1(self._sum(data, share), data.labels) for share in SHARES])
        best = np.flatnonzero(accuracies == accuracies.max())
        self.share = float(SHARES[best[len(best) // 2]])

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        if self.share is None:
            raise NotFittedError(self)
        return self._sum(data, self.share)

    def _sum(self, data: FusionData, share: float) -> Scores:
        return weighted_sum(data, (share, 1 - share), probabilities=self.probabilities)
