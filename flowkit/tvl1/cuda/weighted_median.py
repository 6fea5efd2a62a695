"""The weighted median of the flow, after each warp or after a level."""

from __future__ import annotations

import math

import numpy as np

from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray, KernelFile
from flowkit.tvl1.cuda.plan import Size
from flowkit.tvl1.params import TVL1Params

_TILE = (8, 32)
"""(height, width) of the pixels that a block filters, px: those of weighted_median.cu."""

_MOST_EXPONENT = 1e30
"""Of a weight, at a difference of 1: single precision has room for it."""


class WeightedMedian:
    """Filters the flow of a batch by the first frames (twin: `reference.steps.weighted_median`).

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
        With a weighted median.
    """

    def __init__(self, device: CudaDevice, params: TVL1Params) -> None:
        self._device = device
        self._file = KernelFile.of("weighted_median.cu", {"FLOWKIT_MEDIAN_SIDE": params.weighted_median})
        self._spread = np.float32(params.weighted_median_spread)
        self._falls = tuple(map(_exponent, (params.weighted_median_grey, params.weighted_median_px)))

    def filter_level(
        self, frames: DeviceArray, planes: DeviceArray, flows: tuple[DeviceArray, DeviceArray], level: int
    ) -> None:
        """Enqueue the filter of every pair's flow at the end of a level, or of a cluster's warp.

        Parameters
        ----------
        frames : float32 device array, (planes, height, width)
        planes : int32 device array, (m, 2)
            The planes of each pair.
        flows : (float32 device array, float32 device array), (m, 2, height, width)
            The flow, and its filtered one, in other memory.
        level : int
        """
        self._launch(
            "flowkit_weighted_median", (frames, planes, *flows), frames.shape[-2:], len(planes), level
        )

    def filter_warp(
        self, frames: DeviceArray, planes: DeviceArray, state: tuple[DeviceArray, DeviceArray], level: int
    ) -> None:
        """Enqueue the filter of the tile solver's u after a warp, of the pairs that took part in it.

        Parameters
        ----------
        frames : float32 device array, (planes, height, width)
        planes : int32 device array, (m, 2)
            The planes of each pair.
        state : (float32 device array, int32 device array)
            `TileWorkspace.u` and `states`.
        level : int
        """
        args = (frames, planes, *state, np.int32(len(planes)))
        self._launch("flowkit_weighted_median_of_warp", args, frames.shape[-2:], len(planes), level)

    def _launch(self, name: str, args: tuple[object, ...], size: Size, pairs: int, level: int) -> None:
        tiles = math.prod(-(-side // extent) for side, extent in zip(size, _TILE, strict=True))
        args = (*args, np.int32(size[1]), np.int32(size[0]), self._spread, *self._falls)
        self._device.launch((self._file, name), (tiles, pairs), math.prod(_TILE), args, level=level)


def _exponent(unit: float) -> np.float32:
    """Return k so that 2^(-k d^2) is exp(-(d / unit)^2 / 2)."""
    return np.float32(min(0.5 / math.log(2) / unit / unit, _MOST_EXPONENT))
