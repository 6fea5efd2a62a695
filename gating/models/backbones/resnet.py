"""ResNet-18 and ResNet-50 with the keys of torchvision's state dicts, without its classifier.

Source: He et al., arXiv 1512.03385; the stride of a bottleneck sits in its 3x3 convolution, as
in torchvision ("v1.5").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from gating.models.backbones.backbone import IMAGENET_INPUT, Backbone


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(_conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, C, h, w) to (n, width, h / stride, w / stride)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = _conv(channels_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out, 1)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels_in, out, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, C, h, w) to (n, 4 * width, h / stride, w / stride)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out = F.relu(self.bn1(self.conv1(maps)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + shortcut)


class ResNet(Backbone):
    """Four layers of residual blocks behind a 7x7 stem; stride 32 at the end."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]

    default_tap = "layer4"
    first_conv = "conv1"
    inputs = IMAGENET_INPUT

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for number, depth in enumerate(self.depths, start=1):
            width = 32 << number
            self.add_module(f"layer{number}", self._layer(channels, width, number, depth))
            channels = width * self.block.expansion

    def _layer(self, channels: int, width: int, number: int, depth: int) -> nn.Sequential:
        out = width * self.block.expansion
        first = self.block(channels, width, 1 if number == 1 else 2)
        return nn.Sequential(first, *(self.block(out, width, 1) for _ in range(depth - 1)))

    def stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each of the four layers."""
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(pixels))), 3, stride=2, padding=1)
        for name in self.taps:
            maps = self.get_submodule(name)(maps)
            yield name, maps


class ResNet18(ResNet):
    """ResNet-18."""

    block = BasicBlock
    depths = (2, 2, 2, 2)
    taps = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}  # noqa: RUF012 (ClassVar in the base)
    features = 512


class ResNet50(ResNet):
    """ResNet-50."""

    block = Bottleneck
    depths = (3, 4, 6, 3)
    taps = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}  # noqa: RUF012 (ClassVar in the base)
    features = 2048
