"""A linear head on clips' features: multinomial logistic regression, its strength by cross-validation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gating.data.balance import class_weights
from gating.fusions.linear import divided_groups, fit_linear
from gating.models.loss import cross_entropy

PENALTIES = tuple(10.0**step for step in range(-5, 1))
"""On the squared weights of columns that are standardised and divided by the root of their number."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A fitted head.

    Attributes
    ----------
    weight, bias : Tensor
        float64 (C, P) and (C,), on features as they are.
    penalty : float
        Chosen of `PENALTIES`.
    """

    weight: Tensor
    bias: Tensor
    penalty: float

    def put_into(self, classifier: nn.Linear) -> None:
        """Set a classifier's weights to the head's."""
        with torch.no_grad():
            classifier.weight.copy_(self.weight)
            classifier.bias.copy_(self.bias)


def fit_head(
    features: Tensor,
    labels: Tensor,
    groups: Sequence[str],
    *,
    classes: int,
    seed: int,
    balanced: bool = False,
) -> Head:
    """Fit a head; the penalty with the least log loss on left-out groups decides.

    Parameters
    ----------
    features
        (N, P).
    labels
        int64 (N,), in [0, classes).
    groups
        Of each clip: clips of one group are left out together. A single group is divided.
    classes
        Their number, >= 2.
    seed
        Of the folds.
    balanced
        Weigh each clip by its class, inversely proportional to the class's clips, in the fits and in the
        choice of the penalty.
    """
    weights = torch.from_numpy(class_weights(labels.numpy(), classes)) if balanced else None
    count = features.shape[1]
    model = fit_linear(
        features.double().numpy(),
        labels,
        divided_groups(np.array(groups), seed=seed),
        outputs=classes,
        loss=functools.partial(cross_entropy, weights=weights),
        penalties=[count * penalty for penalty in PENALTIES],
    )
    weight = model.weights[:-1].T / torch.from_numpy(model.standardizer.std)
    bias = model.weights[-1] - weight @ torch.from_numpy(model.standardizer.mean)
    return Head(weight=weight, bias=bias, penalty=model.penalty / count)
