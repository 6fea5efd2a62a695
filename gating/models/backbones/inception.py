"""BN-Inception, the backbone of TSN and of the gating paper, and its blocks, of which the gate has two.

The units of a block are registered on the network itself, as `inception_5a_1x1` and
`inception_5a_1x1_bn`, so that the state dict's keys are those of tsn-pytorch and of the Caffe
models, with `_` for `/`. Input BGR in [0, 255] less 104, 117, 123, as the released gating networks
(tsn-pytorch subtracts 128 from red).

Source: Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, figure 5; TSN's
`bn_inception` deploy prototxt for names and paddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gating.models.backbones.backbone import Backbone, InputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class InceptionBlock:
    """Widths of one block.

    `one` is the 1x1 branch, `three` and `double` list the widths along their branches, 1x1
    reduction first, and `projection` follows the pool. A block without `one` halves the map: its
    3x3 branches end in stride 2 and its pool is taken as it is.
    """

    name: str
    one: int
    three: tuple[int, int]
    double: tuple[int, int, int]
    pool: Literal["average", "max"]
    projection: int

    @property
    def stride(self) -> int:
        """1, or 2 for a block that halves the map."""
        return 1 if self.one else 2

    def out_channels(self, in_channels: int) -> int:
        """Channels of the block's output."""
        return self.one + self.three[-1] + self.double[-1] + (self.projection or in_channels)

    def units(self, in_channels: int) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield name, channels in and out, kernel and stride of each convolution, in file order."""
        if self.one:
            yield "1x1", in_channels, self.one, 1, 1
        reduce, out = self.three
        yield "3x3_reduce", in_channels, reduce, 1, 1
        yield "3x3", reduce, out, 3, self.stride
        reduce, middle, out = self.double
        yield "double_3x3_reduce", in_channels, reduce, 1, 1
        yield "double_3x3_1", reduce, middle, 3, 1
        yield "double_3x3_2", middle, out, 3, self.stride
        if self.projection:
            yield "pool_proj", in_channels, self.projection, 1, 1

    def scaled(self, width: float) -> InceptionBlock:
        """Return the block with every width multiplied, each at least 4."""

        def scale(channels: int) -> int:
            return max(4, round(channels * width))

        return dataclasses.replace(
            self,
            one=scale(self.one),
            three=(scale(self.three[0]), scale(self.three[1])),
            double=(scale(self.double[0]), scale(self.double[1]), scale(self.double[2])),
            projection=scale(self.projection),
        )


# The last two blocks are those of the trunk and, with weights of its own, of the gate.
INCEPTION_5A = InceptionBlock("inception_5a", 352, (192, 320), (160, 224, 224), "average", 128)
INCEPTION_5B = InceptionBlock("inception_5b", 352, (192, 320), (192, 224, 224), "max", 128)


def add_unit(net: nn.Module, name: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> None:
    """Register a convolution (in, out) with bias and its batch norm as `name` and `name`_bn."""
    conv = nn.Conv2d(*channels, kernel, stride=stride, padding=kernel // 2)
    net.add_module(name, conv)
    net.add_module(f"{name}_bn", nn.BatchNorm2d(channels[1]))


def run_unit(net: nn.Module, name: str, maps: Tensor) -> Tensor:
    """Run convolution, batch norm and ReLU of one unit."""
    convolved: Tensor = net.get_submodule(name)(maps)
    normalized: Tensor = net.get_submodule(f"{name}_bn")(convolved)
    return F.relu(normalized, inplace=True)


def add_block(net: nn.Module, block: InceptionBlock, in_channels: int) -> int:
    """Register every unit of a block on `net`; return the channels that come out."""
    for name, channels_in, channels_out, kernel, stride in block.units(in_channels):
        add_unit(net, f"{block.name}_{name}", (channels_in, channels_out), kernel, stride)
    return block.out_channels(in_channels)


def run_block(net: nn.Module, block: InceptionBlock, maps: Tensor) -> Tensor:
    """Run one block: (n, C, h, w) to (n, out_channels, h / stride, w / stride)."""

    def chain(maps: Tensor, *units: str) -> Tensor:
        for unit in units:
            maps = run_unit(net, f"{block.name}_{unit}", maps)
        return maps

    branches = [chain(maps, "1x1")] if block.one else []
    branches.append(chain(maps, "3x3_reduce", "3x3"))
    branches.append(chain(maps, "double_3x3_reduce", "double_3x3_1", "double_3x3_2"))
    if block.projection:
        branches.append(chain(_pool(block, maps), "pool_proj"))
    else:
        branches.append(halve(maps))
    return torch.cat(branches, dim=1)


def _pool(block: InceptionBlock, maps: Tensor) -> Tensor:
    if block.pool == "max":
        return F.max_pool2d(maps, 3, stride=1, padding=1)
    # Caffe counts the padding's zeros in the mean, up to the padded border.
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=True)


def halve(maps: Tensor) -> Tensor:
    """Max pool 3x3 with stride 2 and Caffe's rounding up: 112 to 56, 14 to 7."""
    return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)


BLOCKS: tuple[InceptionBlock, ...] = (
    InceptionBlock("inception_3a", 64, (64, 64), (64, 96, 96), "average", 32),
    InceptionBlock("inception_3b", 64, (64, 96), (64, 96, 96), "average", 64),
    InceptionBlock("inception_3c", 0, (128, 160), (64, 96, 96), "max", 0),
    InceptionBlock("inception_4a", 224, (64, 96), (96, 128, 128), "average", 128),
    InceptionBlock("inception_4b", 192, (96, 128), (96, 128, 128), "average", 128),
    InceptionBlock("inception_4c", 160, (128, 160), (128, 160, 160), "average", 128),
    InceptionBlock("inception_4d", 96, (128, 192), (160, 192, 192), "average", 128),
    InceptionBlock("inception_4e", 0, (128, 192), (192, 256, 256), "max", 0),
    INCEPTION_5A,
    INCEPTION_5B,
)


def _taps() -> dict[str, int]:
    taps, channels = {}, 192
    for block in BLOCKS:
        channels = block.out_channels(channels)
        taps[block.name] = channels
    return taps


class BNInception(Backbone):
    """Ten inception blocks behind a 7x7 stem; stride 32 at the end."""

    taps = _taps()
    default_tap = "inception_4e"
    features = 1024
    first_conv = "conv1_7x7_s2"
    inputs = InputSpec(mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), order="bgr")

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        add_unit(self, "conv1_7x7_s2", (in_channels, 64), 7, 2)
        add_unit(self, "conv2_3x3_reduce", (64, 64), 1)
        add_unit(self, "conv2_3x3", (64, 192), 3)
        channels = 192
        for block in BLOCKS:
            channels = add_block(self, block, channels)

    def stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each inception block."""
        maps = halve(run_unit(self, "conv1_7x7_s2", pixels))
        maps = halve(run_unit(self, "conv2_3x3", run_unit(self, "conv2_3x3_reduce", maps)))
        for block in BLOCKS:
            maps = run_block(self, block, maps)
            yield block.name, maps
