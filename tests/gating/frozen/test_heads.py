"""Linear heads: the minimum of their loss, whatever the number of columns, and the strength that fits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from gating.frozen.heads import PENALTIES, Head, fit_head


def made(clips: int, columns: int, *, signal: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, clips)
    features = rng.normal(2.0, 3.0, (clips, columns))
    features[:, 0] += signal * (labels == 1)
    features[:, 1] += signal * (labels == 2)
    return torch.from_numpy(features), torch.from_numpy(labels)


def groups(clips: int) -> list[str]:
    return [f"s{k // 3}" for k in range(clips)]


def standard(features: torch.Tensor) -> torch.Tensor:
    centred = features - features.mean(dim=0)
    scaled: torch.Tensor = centred / centred.std(dim=0, correction=0) / features.shape[1] ** 0.5
    return scaled


@pytest.mark.parametrize("columns", [5, 200])
def test_a_head_is_the_minimum_of_its_loss(columns: int) -> None:
    features, labels = made(60, columns, signal=6)
    head = fit_head(features, labels, groups(60), classes=3, seed=0)
    std = features.std(dim=0, correction=0) * columns**0.5
    weight = (head.weight * std).requires_grad_()
    bias = (head.bias + head.weight @ features.mean(dim=0)).requires_grad_()
    scores = standard(features) @ weight.T + bias
    assert torch.allclose(scores, features @ head.weight.T + head.bias, atol=1e-8)
    loss = F.cross_entropy(scores, labels) + head.penalty * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-3


def test_a_balanced_head_is_that_of_clips_repeated_until_classes_are_even() -> None:
    features, labels = made(60, 5, signal=2)
    rows = torch.cat([torch.nonzero(labels == 0)[:6, 0], torch.nonzero(labels == 1)[:12, 0]])
    few, own = features[rows], labels[rows]
    even = torch.cat([rows[:6], rows])  # class 0 twice
    balanced = fit_head(few, own, groups(18), classes=2, seed=0, balanced=True)
    scores = few @ balanced.weight.T + balanced.bias
    plain = fit_head(few, own, groups(18), classes=2, seed=0)
    other = few @ plain.weight.T + plain.bias
    # The gradient of the intercept vanishes: the mean probability of each class is its weighted fraction.
    mean = torch.softmax(features[even] @ balanced.weight.T + balanced.bias, dim=1).mean(dim=0)
    assert torch.allclose(mean, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-3)
    assert not torch.allclose(scores, other)


def test_noise_is_held_down_and_signal_is_not() -> None:
    noise, signal = (
        fit_head(*made(90, 40, signal=strength), groups(90), classes=3, seed=0) for strength in (0, 40)
    )
    assert noise.penalty == max(PENALTIES)
    assert signal.penalty < noise.penalty
    features, labels = made(300, 40, signal=40, seed=1)
    right = (features @ signal.weight.T + signal.bias).argmax(dim=1) == labels
    assert right.double().mean() > 0.9


def test_clips_of_a_group_are_left_out_together() -> None:
    """Copies of a clip on both sides would make noise look like signal."""
    features, labels = made(30, 40, signal=0)
    copies, own = features.repeat(4, 1), labels.repeat(4)
    apart = fit_head(copies, own, [str(k % 30) for k in range(120)], classes=3, seed=0)
    mixed = fit_head(copies, own, [str(k) for k in range(120)], classes=3, seed=0)
    assert apart.penalty >= 0.1
    assert mixed.penalty < apart.penalty


def test_one_group_is_divided_and_a_head_goes_into_a_classifier() -> None:
    features, labels = made(40, 6, signal=30)
    head = fit_head(features, labels, ["only"] * 40, classes=3, seed=0)
    classifier = torch.nn.Linear(6, 3)
    head.put_into(classifier)
    expected = features @ head.weight.T + head.bias
    assert torch.allclose(classifier(features.float()).double(), expected, atol=1e-3)
    assert isinstance(head, Head)
