"""Pools of the inception blocks."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from gating.models.backbones.inception import halve


def test_caffe_pools_round_up() -> None:
    assert halve(torch.zeros(1, 1, 14, 14)).shape[2:] == (7, 7)
    assert halve(torch.zeros(1, 1, 112, 111)).shape[2:] == (56, 55)
