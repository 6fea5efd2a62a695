"""Shapes, strides and the order of layers of the small net."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from gating.models.backbones import build_backbone
from gating.models.backbones.backbone import IMAGENET_INPUT
from gating.models.backbones.small import SmallNet


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_stem_and_each_stage_halve_the_map() -> None:
    with torch.no_grad():
        maps = dict(SmallNet().eval().stages(noise(2, 3, 64, 96)))
    assert {name: tuple(tap.shape) for name, tap in maps.items()} == {
        "stage1": (2, 32, 16, 24),
        "stage2": (2, 64, 8, 12),
        "stage3": (2, 128, 4, 6),
    }


@pytest.mark.parametrize(("side", "expected"), [(64, 4), (63, 4), (65, 5), (16, 1), (1, 1)])
def test_sides_that_are_no_multiple_of_16_round_up(side: int, expected: int) -> None:
    with torch.no_grad():
        _, last = SmallNet().eval()(noise(1, 3, side, side), "stage3")
    assert tuple(last.shape[2:]) == (expected, expected)


def test_it_has_seven_convolutions_without_bias_each_with_its_norm() -> None:
    net = SmallNet(10)
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [(conv.in_channels, conv.out_channels, *conv.kernel_size, *conv.stride) for conv in convs] == [
        (10, 24, 5, 5, 2, 2),
        (24, 32, 3, 3, 2, 2),
        (32, 32, 3, 3, 1, 1),
        (32, 64, 3, 3, 2, 2),
        (64, 64, 3, 3, 1, 1),
        (64, 128, 3, 3, 2, 2),
        (128, 128, 3, 3, 1, 1),
    ]
    assert all(conv.bias is None for conv in convs)
    assert [norm.num_features for norm in norms] == [conv.out_channels for conv in convs]
    kernels = 10 * 24 * 25 + 9 * (24 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    assert sum(p.numel() for p in net.parameters()) == kernels + 2 * (24 + 2 * 32 + 2 * 64 + 2 * 128)


def test_the_maps_are_those_of_the_layers_by_name() -> None:
    """The net written out from its checkpoint's names."""
    net = SmallNet().eval()
    # Statistics and affine of a trained net, so that a norm that is left out shows.
    with torch.no_grad():
        for norm in (module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.running_mean = 0.1 * noise(norm.num_features)
            norm.running_var = 1 + noise(norm.num_features).abs()
            norm.weight.copy_(1 + 0.1 * noise(norm.num_features))
            norm.bias.copy_(0.2 * noise(norm.num_features))
    state, pixels = net.state_dict(), noise(2, 3, 32, 32)

    def layer(maps: Tensor, name: str, stride: int, padding: int) -> Tensor:
        maps = F.conv2d(maps, state[f"{name}.0.weight"], stride=stride, padding=padding)
        mean, var, weight, bias = (
            state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(maps, mean, var, weight, bias))

    expected = layer(pixels, "stem", 2, 2)
    with torch.no_grad():
        found = dict(net.stages(pixels))
    for stage in ("stage1", "stage2", "stage3"):
        expected = layer(layer(expected, f"{stage}_down", 2, 1), stage, 1, 1)
        torch.testing.assert_close(found[stage], expected, rtol=1e-5, atol=1e-6)
        assert float(expected.std()) > 0


def test_its_first_convolution_and_taps_are_the_ones_it_names() -> None:
    net = build_backbone("small", 4)
    assert isinstance(net, SmallNet)
    first = net.get_submodule(net.first_conv)
    assert isinstance(first, torch.nn.Conv2d)
    assert first.in_channels == 4
    assert (list(net.taps), net.default_tap, net.features) == (["stage1", "stage2", "stage3"], "stage2", 128)
    assert net.inputs is IMAGENET_INPUT


def test_every_weight_has_a_gradient() -> None:
    net = SmallNet().train()
    features, _ = net(noise(4, 3, 32, 32), "stage2")
    features.square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
