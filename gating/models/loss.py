"""Cross-entropy, of clips that weigh alike or by their class."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of N clips, each times the weight of its class.

    It is divided by the number of clips and not by their weights, so that the micro-batches of a step add up
    to its loss.

    Parameters
    ----------
    scores
        (N, C), before softmax.
    labels
        int64 (N,), in [0, C).
    weights
        (C,), >= 0, of `gating.data.balance.class_weights`; None is 1 for each class.
    """
    if weights is None:
        return F.cross_entropy(scores, labels)
    losses = F.cross_entropy(scores, labels, reduction="none")
    return (losses * weights[labels].to(losses.dtype)).mean()
