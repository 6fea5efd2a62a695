"""The weighted cross-entropy."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from gating.models.loss import cross_entropy

SCORES = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 0, 1])


def test_equal_weights_are_none() -> None:
    plain = F.cross_entropy(SCORES, LABELS)
    assert torch.equal(cross_entropy(SCORES, LABELS), plain)
    assert torch.allclose(cross_entropy(SCORES, LABELS, torch.ones(3)), plain)


def test_micro_batches_add_up_to_the_loss_of_the_step() -> None:
    weights = torch.tensor([0.5, 2.0, 3.0])
    whole = cross_entropy(SCORES, LABELS, weights)
    parts = [cross_entropy(SCORES[rows], LABELS[rows], weights) for rows in (slice(0, 2), slice(2, 6))]
    assert torch.allclose(parts[0] * 2 / 6 + parts[1] * 4 / 6, whole)
    own = [weights[label] * F.cross_entropy(SCORES[k], label) for k, label in enumerate(LABELS)]
    assert torch.allclose(whole, sum(own) / 6)  # type: ignore[arg-type]
