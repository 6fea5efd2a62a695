"""Shapes, keys and pools of the backbones."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InvalidParameterError
from gating.config import BACKBONES
from gating.models.backbones import build_backbone
from gating.models.backbones.inception import halve


@pytest.mark.parametrize("name", BACKBONES)
def test_taps_have_the_channels_they_promise(name: str) -> None:
    backbone = build_backbone(name, 10).eval()
    with torch.no_grad():
        maps = dict(backbone.stages(torch.zeros(1, 10, 32, 32)))
    assert {tap: maps[tap].shape[1] for tap in maps} == backbone.taps
    assert list(maps.values())[-1].shape[1] == backbone.features
    assert backbone.default_tap in backbone.taps


@pytest.mark.parametrize("name", BACKBONES)
def test_forward_pools_the_last_map_and_returns_the_tapped_one(name: str) -> None:
    backbone = build_backbone(name).eval()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = dict(backbone.stages(pixels))
        features, feature_map = backbone(pixels, backbone.default_tap)
    torch.testing.assert_close(features, list(maps.values())[-1].mean((2, 3)), rtol=0, atol=0)
    torch.testing.assert_close(feature_map, maps[backbone.default_tap], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # torchvision's 11,689,512 and 25,557,032 less their classifiers of 1000.
        ("resnet18", 11_689_512 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        # 4,652,008 tensors' numbers of the published weights less the classifier.
        ("efficientnet_lite0", 4_652_008 - 1_281_000),
        # tsn-pytorch's BN-Inception with 1000 classes has 11,295,240.
        ("bn_inception", 11_295_240 - 1_025_000),
    ],
)
def test_parameters_are_as_many_as_the_published_nets(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build_backbone(name).parameters()) == parameters


def test_bn_inception_keeps_the_names_and_shapes_of_the_caffe_layers() -> None:
    state = build_backbone("bn_inception").state_dict()
    assert tuple(state["conv1_7x7_s2.weight"].shape) == (64, 3, 7, 7)
    assert tuple(state["inception_4e_double_3x3_2.weight"].shape) == (256, 256, 3, 3)
    assert tuple(state["inception_5b_pool_proj_bn.running_var"].shape) == (128,)
    # A block that halves the map has neither a 1x1 branch nor a projection.
    assert "inception_3c_1x1.weight" not in state
    assert "inception_4e_pool_proj.weight" not in state
    assert len(state) == 69 * (2 + 5)


def test_bn_inception_taps_7x7_at_224() -> None:
    with torch.no_grad():
        features, feature_map = build_backbone("bn_inception").eval()(
            torch.zeros(1, 3, 224, 224), "inception_4e"
        )
    assert tuple(feature_map.shape) == (1, 1056, 7, 7)
    assert tuple(features.shape) == (1, 1024)


def test_resnet_keys_are_torchvisions() -> None:
    state = build_backbone("resnet50").state_dict()
    for key in ("conv1.weight", "bn1.bias", "layer1.0.downsample.1.running_mean", "layer4.2.conv3.weight"):
        assert key in state
    # The stride is in the 3x3 convolution.
    assert build_backbone("resnet50").get_submodule("layer2.0.conv2").stride == (2, 2)


def test_same_padding_puts_what_is_odd_to_the_right_and_below() -> None:
    from gating.models.backbones.efficientnet_lite import SameConv2d

    conv = SameConv2d((1, 1), 3, 2)
    torch.nn.init.ones_(conv.weight)
    counted = conv(torch.ones(1, 1, 4, 4))
    # SAME of TensorFlow for 4 -> 2 with kernel 3, stride 2 pads 0 before and 1 behind.
    assert counted.squeeze().tolist() == [[9.0, 6.0], [6.0, 4.0]]


def test_caffe_pools_round_up() -> None:
    assert halve(torch.zeros(1, 1, 14, 14)).shape[2:] == (7, 7)
    assert halve(torch.zeros(1, 1, 112, 111)).shape[2:] == (56, 55)


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(InvalidParameterError, match=r"Invalid backbone \('vgg16'\)\. .* are bn_inception"):
        build_backbone("vgg16")
    with pytest.raises(
        InvalidParameterError, match=r"Invalid tap \('conv5'\)\. .* are stage1, stage2, stage3$"
    ):
        build_backbone("small")(torch.zeros(1, 3, 16, 16), "conv5")
