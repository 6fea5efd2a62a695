"""Padding of EfficientNet-Lite0."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch


def test_same_padding_puts_what_is_odd_to_the_right_and_below() -> None:
    from gating.models.backbones.efficientnet_lite import SameConv2d

    conv = SameConv2d((1, 1), 3, 2)
    torch.nn.init.ones_(conv.weight)
    counted = conv(torch.ones(1, 1, 4, 4))
    # SAME of TensorFlow for 4 -> 2 with kernel 3, stride 2 pads 0 before and 1 behind.
    assert counted.squeeze().tolist() == [[9.0, 6.0], [6.0, 4.0]]
