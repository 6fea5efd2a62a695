"""One batch of pairs on the device: pyramids, then level by level by the tile or cluster solver."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda.cluster import ClusterSolver
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray
from flowkit.tvl1.cuda.plan import Size, TileShape, cluster_seconds, filters_after, work_seconds
from flowkit.tvl1.cuda.pyramid import Pyramids
from flowkit.tvl1.cuda.state import LevelState
from flowkit.tvl1.cuda.tile import TileSolver, TileWorkspace
from flowkit.tvl1.cuda.weighted_median import WeightedMedian
from flowkit.tvl1.params import TVL1Params

Method = Literal["tile", "cluster"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchResult:
    """The result of a batch, on the device.

    Attributes
    ----------
    flow : float32 device array, (m, 2, H, W)
        u to the right, v downwards, px.
    iterations : int32 device array, (m, levels * warps)
        Those of each warp, the coarsest level first.
    """

    flow: DeviceArray
    iterations: DeviceArray


class BatchSolver:
    """Solves batches of one frame size with one set of parameters.

    Everything runs on the caller's current device and stream, and is only enqueued: the host waits
    for nothing but the tile solver's counter.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
    size : (height, width)
        Of the frames, px.
    tile : TileShape
    method : {"tile", "cluster"}
        With "cluster", levels that do not fit a cluster are solved by tiles.
    """

    def __init__(
        self, device: CudaDevice, params: TVL1Params, size: Size, *, tile: TileShape, method: Method
    ) -> None:
        self._device, self._params, self._size = device, params, size
        self._pyramids = Pyramids(device, params, size)
        self._sizes = self._pyramids.sizes
        self._tiles = TileSolver(device, params, self._sizes, tile)
        self._clusters = ClusterSolver(device, params, self._sizes) if method == "cluster" else None
        self._median = WeightedMedian(device, params) if filters_after(params, "level") else None
        self._carried = params.dual_start == "coarser"

    def work_seconds(self, pairs: int) -> float:
        """Return the longest time that so many pairs may keep the GPU between two signs of life."""
        on_chip = [size for level, size in enumerate(self._sizes) if self._by_cluster(level)]
        seconds = cluster_seconds(pairs, on_chip, self._params)
        if len(on_chip) < len(self._sizes):
            ahead = self._tiles.iterations_ahead
            seconds += work_seconds(pairs, self._size, self._params, iterations_ahead=ahead)
        return seconds

    def solve(
        self, frames: DeviceArray, pairs: NDArray[np.int32], out: DeviceArray | None = None
    ) -> BatchResult:
        """Enqueue the solution of every pair.

        Parameters
        ----------
        frames : device array, (n, H, W), uint8 or float32 in [0, 255], C-contiguous
        pairs : int32 array, (m, 2), m >= 1
            On the host; each frame should be named by some pair.
        out : float32 device array, (m, 2, H, W), optional
            Memory for the flow; default: new memory.
        """
        pyramid, planes_on_host = self._pyramids.build(frames, pairs)
        planes = self._device.upload(planes_on_host)
        if all(map(self._by_cluster, range(len(self._sizes)))):
            return self._solve_levels(pyramid, planes, None, out)
        work = self._tiles.workspace(planes)
        try:
            return self._solve_levels(pyramid, planes, work, out)
        finally:
            # Copies of the counter may still be in flight.
            self._device.keep_until_done(work.progress)

    def _solve_levels(
        self,
        pyramid: list[DeviceArray],
        planes: DeviceArray,
        work: TileWorkspace | None,
        out: DeviceArray | None,
    ) -> BatchResult:
        levels, warps, count = len(self._sizes), self._params.warps, len(planes)
        iterations = self._device.zeros((count, levels * warps), np.int32)
        result: LevelState | None = None
        for level in reversed(range(levels)):
            start = None if result is None else self._pyramids.upsample(result, level)
            result = self._new_state(count, level, out)
            solved = (
                result.flow if self._median is None else self._device.empty(result.flow.shape, np.float32)
            )
            counts = iterations.reshape(-1)[(levels - 1 - level) * warps :]
            frames, flows = pyramid[level], (None if start is None else start.flow, solved)
            duals = (None if start is None else start.dual, result.dual)
            bounds = self._pyramids.edge_bounds(frames, planes, level)
            if self._clusters is not None and self._by_cluster(level):
                self._clusters.solve_level(
                    level, frames, flows, counts, planes=planes, duals=duals, bounds=bounds
                )
            else:
                assert work is not None
                self._tiles.solve_level(level, frames, flows, counts, work=work, duals=duals, bounds=bounds)
            if self._median is not None:
                self._median.filter_level(frames, planes, (solved, result.flow), level)
        assert result is not None
        return BatchResult(flow=result.flow if out is None else out, iterations=iterations)

    def _new_state(self, pairs: int, level: int, out: DeviceArray | None) -> LevelState:
        """Return room for a level's result: of the finest one, `out` if given, its flow alone."""
        if level == 0 and out is not None:
            return LevelState(planes=out.reshape(-1, *self._sizes[0]), pairs=pairs)
        planes = 6 if self._carried and level > 0 else 2
        room = self._device.empty((planes * pairs, *self._sizes[level]), np.float32)
        return LevelState(planes=room, pairs=pairs)

    def _by_cluster(self, level: int) -> bool:
        return self._clusters is not None and self._clusters.fits(level)
