"""BN-Inception, the backbone of TSN and of the gating paper, with tsn-pytorch's keys.

Source: arXiv 1502.03167; TSN's Caffe model. Input BGR in [0, 255] less 104, 117, 123, as the
released gating networks (tsn-pytorch subtracts 128 from red).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gating.models.backbones.backbone import Backbone, InputSpec
from gating.models.backbones.inception import (
    INCEPTION_5A,
    INCEPTION_5B,
    InceptionBlock,
    add_block,
    add_unit,
    halve,
    run_block,
    run_unit,
)

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
