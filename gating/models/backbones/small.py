"""A small net for CPUs and images of about 64 px: seven convolutions, stride 16 at the end."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from gating.models.backbones.backbone import IMAGENET_INPUT, Backbone


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class SmallNet(Backbone):
    """A 5x5 stem and three stages of two 3x3 convolutions, the first of each with stride 2."""

    taps = {"stage1": 32, "stage2": 64, "stage3": 128}  # noqa: RUF012 (ClassVar in the base)
    default_tap = "stage2"
    features = 128
    first_conv = "stem.0"
    inputs = IMAGENET_INPUT

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _unit(in_channels, 24, 5, 2)
        channels = 24
        for name, width in self.taps.items():
            self.add_module(f"{name}_down", _unit(channels, width, 3, 2))
            self.add_module(name, _unit(width, width, 3, 1))
            channels = width

    def stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each of the three stages."""
        maps = F.relu(self.stem(pixels))
        for name in self.taps:
            maps = F.relu(self.get_submodule(f"{name}_down")(maps))
            maps = F.relu(self.get_submodule(name)(maps))
            yield name, maps
