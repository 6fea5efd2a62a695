"""Logistic regression on both streams' scores ("stack") or pooled features ("features").

The L2 penalty is chosen by cross-validation within the data of `fit`, groups kept together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Need, Scores
from gating.fusions.linear import LinearModel, fit_linear, fold_numbers


@dataclasses.dataclass(kw_only=True, slots=True)
class Logistic(Fusion):
    """Multinomial logistic regression on standardised columns of both streams."""

    kind = Kind.LEARNED

    reads: Literal["scores", "features"]
    model: LinearModel | None = None

    @property
    def needs(self) -> Set[Need]:
        """Features, where it reads them."""
        return frozenset({"features"}) if self.reads == "features" else frozenset()

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Choose the penalty by cross-validation, then fit all of the data."""
        self.model = fit_linear(
            self._columns(data),
            torch.from_numpy(data.labels),
            fold_numbers(data, seed=seed),
            outputs=data.classes,
            loss=F.cross_entropy,
        )

    def apply(self, data: FusionData) -> Scores:
        """Return log-odds, float64 (N, classes)."""
        if self.model is None:
            raise NotFittedError(self)
        return self.model(self._columns(data))

    def _columns(self, data: FusionData) -> Scores:
        if self.reads == "scores":
            return data.both_scores()
        return np.concatenate(data.both_features(), axis=1)
