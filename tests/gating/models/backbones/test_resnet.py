"""Keys and strides of the ResNets."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from gating.models.backbones import build_backbone


def test_resnet_keys_are_torchvisions() -> None:
    state = build_backbone("resnet50").state_dict()
    for key in ("conv1.weight", "bn1.bias", "layer1.0.downsample.1.running_mean", "layer4.2.conv3.weight"):
        assert key in state
    # The stride is in the 3x3 convolution.
    assert build_backbone("resnet50").get_submodule("layer2.0.conv2").stride == (2, 2)
