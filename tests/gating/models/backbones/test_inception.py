"""Keys, shapes and pools of BN-Inception."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from gating.models.backbones import build_backbone
from gating.models.backbones.inception import halve


def test_caffe_pools_round_up() -> None:
    assert halve(torch.zeros(1, 1, 14, 14)).shape[2:] == (7, 7)
    assert halve(torch.zeros(1, 1, 112, 111)).shape[2:] == (56, 55)


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
