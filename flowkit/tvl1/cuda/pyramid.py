"""Pyramids on the device, once per frame, and the flow's way up from level to level."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda.device import NULL, THREADS, CudaDevice, DeviceArray, KernelFile, blocks
from flowkit.tvl1.cuda.plan import (
    AxisTable,
    Resampling,
    Size,
    edge_blur,
    flow_upsampling,
    presmoothing,
    shrinking,
)
from flowkit.tvl1.cuda.state import LevelState
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes

_FILE = KernelFile(source="pyramid.cu")

MOST_PLANES = 65535
"""Of CUDA's grid in y: the most planes of one launch, and so the most frames of a batch."""

# Above and below all grey values, as the bits of floats: the start of a minimum and a maximum.
_NO_RANGE = np.array([np.float32(np.finfo(np.float32).max).view(np.int32), 0], np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _DeviceAxis:
    """An AxisTable on the device."""

    index: DeviceArray
    weights: DeviceArray
    taps: int
    length: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _DeviceStep:
    """A Resampling on the device."""

    horizontal: _DeviceAxis
    vertical: _DeviceAxis
    gain: float


class Pyramids:
    """Builds the levels of frames of one size with one set of parameters.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
    size : (height, width)
        Of the frames, px.

    Attributes
    ----------
    sizes : list of (height, width)
        Of each level, the frame itself first.
    """

    def __init__(self, device: CudaDevice, params: TVL1Params, size: Size) -> None:
        self._device, self._params = device, params
        self._normalize = params.normalize
        self.sizes = level_sizes(size, params)
        steps = list(zip(self.sizes, self.sizes[1:], strict=False))
        self._smooth = [self._keep(step) for step in presmoothing(size, params)]
        self._down = [[self._keep(step) for step in shrinking(a, b, params)] for a, b in steps]
        self._up = [self._keep(flow_upsampling(b, a, params)) for a, b in steps]
        self._edge_blurs = [self._keep(edge_blur(level)) for level in self.sizes if params.edge_alpha]
        # Once per size: the tables may be used on any stream afterwards.
        device.faults.wait(device.event())

    def _keep(self, step: Resampling) -> _DeviceStep:
        return _DeviceStep(
            horizontal=self._keep_axis(step.horizontal),
            vertical=self._keep_axis(step.vertical),
            gain=step.gain,
        )

    def _keep_axis(self, table: AxisTable) -> _DeviceAxis:
        return _DeviceAxis(
            index=self._device.upload(table.index),
            weights=self._device.upload(table.weights),
            taps=table.taps,
            length=table.index.shape[1],
        )

    def build(
        self, frames: DeviceArray, pairs: NDArray[np.int32]
    ) -> tuple[list[DeviceArray], NDArray[np.int32]]:
        """Enqueue every level of every frame.

        Parameters
        ----------
        frames : device array, (n, H, W), uint8 or float32 in [0, 255], C-contiguous
        pairs : int32 array, (m, 2)
            On the host.

        Returns
        -------
        levels : list of float32 device arrays, (planes, height, width)
            The frame itself first (twin: `reference.pyramid.build_pyramid`).
        planes : int32 array, (m, 2)
            On the host: the planes of each pair. Scaled jointly, a frame's grey values depend
            on the pair, so that it needs planes of its own; otherwise pairs share frames.
        """
        if self._normalize:
            sources = np.ascontiguousarray(pairs.reshape(-1))
            planes = np.arange(len(sources), dtype=np.int32).reshape(-1, 2)
            ranges = self._joint_ranges(frames, pairs)
        else:
            sources, planes, ranges = np.arange(len(frames), dtype=np.int32), pairs, NULL
        level = self._load(frames, sources, ranges)
        for step in self._smooth:
            level = self._resample(level, step)
        levels = [level]
        for steps in self._down:
            for step in steps:
                level = self._resample(level, step)
            levels.append(level)
        return levels, planes

    def upsample(self, state: LevelState, level: int) -> LevelState:
        """Bring the state of level + 1 to `level` (twins: `upsample_flow`, `upsample_dual`)."""
        step, pairs = self._up[level], state.pairs
        across, down = step.horizontal, step.vertical
        finer = self._device.empty((len(state.planes), *self.sizes[level]), np.float32)
        tables = (across.index, across.weights, down.index, down.weights)
        ints = (across.taps, pairs, state.dual is not None, *state.planes.shape[1:], *self.sizes[level])
        args = (state.planes, finer, *tables, *map(np.int32, ints), np.float32(step.gain))
        grid = (blocks(down.length * across.length), pairs)
        self._device.launch((_FILE, "flowkit_upsample"), grid, THREADS, args, level=level)
        return LevelState(planes=finer, pairs=pairs)

    def edge_bounds(self, planes: DeviceArray, pairs: DeviceArray, level: int) -> DeviceArray | None:
        """Enqueue the bounds of the dual variable by the edges of each pair's first frame.

        Parameters
        ----------
        planes : float32 device array, (planes, height, width)
            The level, as `build` made it.
        pairs : int32 device array, (m, 2)
            The planes of each pair.
        level : int

        Returns
        -------
        float32 device array, (m, height, width), or None
            theta times the weight of the total variation (twin: `edge_weight`); None: it is 1 everywhere.
        """
        params, (height, width) = self._params, self.sizes[level]
        if not params.edge_alpha:
            return None
        bounds = self._device.empty((len(pairs), height, width), np.float32)
        smooth = self._resample(planes, self._edge_blurs[level])
        floats = map(np.float32, (params.edge_alpha, params.edge_beta, params.theta))
        args = (smooth, pairs, bounds, np.int32(width), np.int32(height), *floats)
        grid = (blocks(height * width), len(pairs))
        self._device.launch((_FILE, "flowkit_edge_bounds"), grid, THREADS, args, level=level)
        return bounds

    def _joint_ranges(self, frames: DeviceArray, pairs: NDArray[np.int32]) -> DeviceArray:
        ranges = self._device.upload(np.tile(_NO_RANGE, (len(pairs), 1)))
        n = frames.shape[1] * frames.shape[2]
        args = (*_bytes_or_floats(frames), self._device.upload(pairs), ranges, np.int32(n))
        grid = (min(64, blocks(n)), len(pairs))
        self._device.launch((_FILE, "flowkit_grey_range"), grid, THREADS, args)
        return ranges

    def _load(self, frames: DeviceArray, sources: NDArray[np.int32], ranges: DeviceArray) -> DeviceArray:
        _, height, width = frames.shape
        planes = self._device.empty((len(sources), height, width), np.float32)
        n = height * width
        args = (*_bytes_or_floats(frames), self._device.upload(sources), ranges, planes, np.int32(n))
        self._device.launch((_FILE, "flowkit_load_grey"), (blocks(n), len(sources)), THREADS, args)
        return planes

    def _resample(self, planes: DeviceArray, step: _DeviceStep) -> DeviceArray:
        *outer, height, _ = planes.shape
        across = (*outer, height, step.horizontal.length)
        narrowed = self._resample_axis(planes, across, step.horizontal, vertical=False, gain=1)
        both = (*outer, step.vertical.length, step.horizontal.length)
        return self._resample_axis(narrowed, both, step.vertical, vertical=True, gain=step.gain)

    def _resample_axis(
        self, planes: DeviceArray, shape: tuple[int, ...], axis: _DeviceAxis, *, vertical: bool, gain: float
    ) -> DeviceArray:
        result = self._device.empty(shape, np.float32)
        count = int(np.prod(shape[:-2]))
        ints = (axis.taps, vertical, count, *planes.shape[-2:], *shape[-2:])
        args = (planes, result, axis.index, axis.weights, *map(np.int32, ints), np.float32(gain))
        grid = (blocks(shape[-2] * shape[-1]), min(count, MOST_PLANES))
        self._device.launch((_FILE, "flowkit_resample"), grid, THREADS, args)
        return result


def _bytes_or_floats(frames: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    return (frames, NULL) if frames.dtype == np.uint8 else (NULL, frames)
