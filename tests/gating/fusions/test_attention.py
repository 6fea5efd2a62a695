"""The cross-attention head, against its equation, and on labels that no stream knows alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gating.fusions import FusionData
from gating.fusions.attention import TOKENS, WIDTH, AttentionHead, CrossAttention
from tests.make.fusion_data import CLASSES, accuracy


def test_attention_is_the_papers_equation() -> None:
    layer = CrossAttention().double()
    own, other = torch.randn(2, 3, TOKENS, WIDTH, dtype=torch.float64)
    for clip in range(3):
        queries, keys, values = (
            tokens[clip] @ matrix.weight.T
            for tokens, matrix in ((own, layer.query), (other, layer.key), (other, layer.value))
        )
        weights = torch.softmax(queries @ keys.T / math.sqrt(WIDTH), dim=1)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(TOKENS, dtype=torch.float64))
        torch.testing.assert_close(layer(own, other)[clip], own[clip] + weights @ values)


def test_each_streams_tokens_read_the_other_ones() -> None:
    head = AttentionHead(5, 4, CLASSES).double()
    features = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    flow, rgb = (
        torch.tanh(layer(one)).reshape(3, TOKENS, WIDTH)
        for layer, one in zip((head.flow, head.rgb), features, strict=True)
    )
    both = [head.of_flow(flow, rgb).reshape(3, -1), head.of_rgb(rgb, flow).reshape(3, -1)]
    torch.testing.assert_close(head(*features), head.classifier(torch.cat(both, dim=1)))


def test_a_clips_scores_are_its_own() -> None:
    head = AttentionHead(5, 4, CLASSES).double()
    flow, rgb = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(head(flow, rgb)[order], head(flow[order], rgb[order]))


def test_dropped_units_do_not_count() -> None:
    head = AttentionHead(5, 4, CLASSES)
    scores = head(torch.ones(1, 5), torch.ones(1, 4), torch.zeros(1, 2 * TOKENS * WIDTH))
    assert torch.equal(scores[0], head.classifier.bias)


def test_the_number_of_parameters_is_as_documented() -> None:
    assert sum(one.numel() for one in AttentionHead(1024, 1024, 101).parameters()) == 145_765


def one_bit_each(count: int, *, seed: int = 0) -> FusionData:
    """Two classes: whether flow's bit and rgb's bit differ."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(2, size=(2, count))
    flow, rgb = ((2 * one - 1)[:, None] + 0.3 * rng.normal(size=(count, 3)) for one in bits)
    nothing = rng.normal(size=(count, 2))
    return FusionData(
        flow=nothing, rgb=nothing, labels=bits[0] ^ bits[1], flow_features=flow, rgb_features=rgb
    )


def test_attention_learns_what_only_both_streams_together_show() -> None:
    """Without attention the head is a sum of a function of each stream, which can have at most 3/4 right."""
    fit_on, test = one_bit_each(400), one_bit_each(400, seed=1)
    assert accuracy("features", fit_on, test) < 0.7
    assert accuracy("attention", fit_on, test) > 0.95
