"""A stream's shapes, what learns in it, and what freezing leaves on."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InvalidParameterError
from gating.config import StreamConfig
from gating.errors import WeightsError
from gating.models.streams import Stream, check_same_features


def small(**choices: object) -> Stream:
    torch.manual_seed(0)
    return Stream(StreamConfig(num_classes=4, backbone="small", **{"modality": "flow", **choices}))  # type: ignore[arg-type]


def norms(stream: Stream) -> list[torch.nn.BatchNorm2d]:
    return [module for module in stream.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_segments_keep_their_order() -> None:
    stream = small().eval()
    segments = torch.randn(2, 3, 10, 32, 32)
    with torch.no_grad():
        out = stream(segments)
        alone = stream(segments[1:, 2:])
    assert tuple(out.scores.shape) == (2, 3, 4)
    assert tuple(out.features.shape) == (2, 3, 128)
    assert tuple(out.feature_map.shape) == (2, 3, stream.tap_channels, 4, 4)
    # float32 sums in another order: 1e-5 of values of order 1.
    torch.testing.assert_close(out.feature_map[1:, 2:], alone.feature_map, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.consensus, out.scores.mean(1), rtol=0, atol=0)


def test_partial_bn_leaves_only_the_first_norm_learning() -> None:
    stream = small(partial_bn=True).train()
    first, *later = norms(stream)
    assert first.training
    assert first.weight.requires_grad
    assert not any(norm.training or norm.weight.requires_grad or norm.bias.requires_grad for norm in later)
    assert all(norm.training and norm.weight.requires_grad for norm in norms(small(partial_bn=False).train()))


def test_partial_bn_moves_only_the_first_statistics() -> None:
    stream = small(partial_bn=True).train()
    means = [name for name in stream.state_dict() if name.endswith("running_mean")]
    before = {name: stream.state_dict()[name].clone() for name in means}
    stream(torch.randn(4, 1, 10, 32, 32) + 1)
    moved = [not torch.equal(stream.state_dict()[name], before[name]) for name in means]
    assert moved == [True] + [False] * (len(moved) - 1)


def test_a_frozen_stream_drops_out_but_learns_nothing() -> None:
    stream = small(dropout=0.7, partial_bn=False).freeze().train()
    state = {name: value.clone() for name, value in stream.state_dict().items()}
    segments = torch.randn(4, 2, 10, 32, 32)
    first, second = stream(segments), stream(segments)
    assert not torch.equal(first.scores, second.scores)
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.feature_map, second.feature_map)
    assert not any(tensor.requires_grad for tensor in (first.scores, first.features, first.feature_map))
    assert all(torch.equal(value, state[name]) for name, value in stream.state_dict().items())


def test_a_frozen_stream_in_eval_mode_drops_nothing() -> None:
    stream = small(dropout=0.7).train().freeze().eval()
    segments = torch.randn(2, 2, 10, 32, 32)
    assert torch.equal(stream(segments).scores, stream(segments).scores)


def test_the_fraction_that_drops_out_is_tsns() -> None:
    stream = small(modality="rgb").freeze().train()
    with torch.no_grad():
        stream.classifier.weight.fill_(1.0)
    pooled = torch.ones(4000, 128)
    kept = (stream.dropout(pooled) > 0).float().mean()
    # 512,000 draws: .2 with a deviation of 6e-4.
    assert abs(float(kept) - 0.2) < 3e-3


def test_taps_can_be_chosen_and_are_checked() -> None:
    assert small(tap="stage3").tap_channels == 128
    with pytest.raises(InvalidParameterError, match=r"Invalid tap .* are stage1"):
        small(tap="layer4")


def test_streams_whose_maps_cannot_meet_are_refused() -> None:
    check_same_features(small(), small(modality="rgb"))
    with pytest.raises(WeightsError, match="64 of flow's stage2 and 128 of rgb's stage3"):
        check_same_features(small(), small(modality="rgb", tap="stage3"))
