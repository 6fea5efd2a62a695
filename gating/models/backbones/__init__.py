"""Convolutional trunks of the two streams, each with the keys of its public weights."""

from __future__ import annotations

import importlib

from flowkit.validate import check_choice
from gating.config import BACKBONES
from gating.models.backbones.backbone import Backbone, InputSpec

__all__ = ["Backbone", "InputSpec", "build_backbone"]


def build_backbone(name: str, in_channels: int = 3) -> Backbone:
    """Return a backbone with random weights.

    Raises
    ------
    InvalidParameterError
        `name` is not one of `gating.config.BACKBONES`.
    """
    check_choice("backbone", name, BACKBONES)
    module, _, kind = BACKBONES[name].partition(":")
    backbone: Backbone = getattr(importlib.import_module(module), kind)(in_channels)
    return backbone
