"""Every backbone: feature maps, pooled features, numbers of parameters, and names."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InvalidParameterError
from gating.config import BACKBONES
from gating.models.backbones import build_backbone


@pytest.mark.parametrize("name", BACKBONES)
def test_taps_have_the_channels_they_promise(name: str) -> None:
    backbone = build_backbone(name, 10).eval()
    with torch.no_grad():
        maps = dict(backbone.stages(torch.zeros(1, 10, 32, 32)))
    assert {tap: maps[tap].shape[1] for tap in maps} == backbone.taps
    assert list(maps.values())[-1].shape[1] == backbone.features
    assert backbone.default_tap in backbone.taps


@pytest.mark.parametrize("name", BACKBONES)
def test_forward_pools_the_last_map_and_returns_the_chosen_one(name: str) -> None:
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


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(InvalidParameterError, match=r"Invalid backbone \('vgg16'\)\. .* are bn_inception"):
        build_backbone("vgg16")
    with pytest.raises(
        InvalidParameterError, match=r"Invalid tap \('conv5'\)\. .* are stage1, stage2, stage3$"
    ):
        build_backbone("small")(torch.zeros(1, 3, 16, 16), "conv5")
