"""Convolutional trunks of the two streams, each with the keys of its public weights."""

from __future__ import annotations

from collections.abc import Callable

from gating.config import BACKBONES, check_choice
from gating.models.backbones.backbone import Backbone, InputSpec
from gating.models.backbones.bn_inception import BNInception
from gating.models.backbones.efficientnet_lite import EfficientNetLite0
from gating.models.backbones.resnet import ResNet18, ResNet50
from gating.models.backbones.small import SmallNet

__all__ = ["Backbone", "InputSpec", "build_backbone"]

_CLASSES: dict[str, Callable[[int], Backbone]] = {
    "bn_inception": BNInception,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "efficientnet_lite0": EfficientNetLite0,
    "small": SmallNet,
}


def build_backbone(name: str, in_channels: int = 3) -> Backbone:
    """Return a backbone with random weights.

    Raises
    ------
    InvalidParameterError
        `name` is not one of `gating.config.BACKBONES`.
    """
    check_choice("backbone", name, BACKBONES)
    return _CLASSES[name](in_channels)
