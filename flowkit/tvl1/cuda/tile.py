"""The tile solver's side of a batch: one launch after the other until no pair iterates.

The host only enqueues. It reads the number of active pairs from a counter that is copied to pinned
memory after each test, some launches late: pairs that have stopped skip the launches in between,
so that the result does not depend on when the host reads.
"""

from __future__ import annotations

import collections

import numpy as np

from flowkit.tvl1.cuda.blocks import block_count, still_units
from flowkit.tvl1.cuda.device import (
    THREADS,
    CudaDevice,
    DeviceArray,
    KernelFile,
    blocks,
    or_null,
)
from flowkit.tvl1.cuda.faults import Event
from flowkit.tvl1.cuda.plan import Launch, Model, Size, TileShape, filters_after, launches, tile_level
from flowkit.tvl1.cuda.weighted_median import WeightedMedian
from flowkit.tvl1.params import TVL1Params

TESTS_AHEAD = 3
"""Tests without an outcome yet when the host enqueues more launches."""


class TileProgress:
    """Number of pairs that still iterate, read without stopping the device."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        # A report is read before more than TESTS_AHEAD newer ones exist: no slot is overwritten.
        self._slots = device.pinned((TESTS_AHEAD + 2,), np.int32)
        self._waiting: collections.deque[tuple[Event, int]] = collections.deque()
        self._count = 0

    def start(self) -> None:
        """Discard the reports of the warp before."""
        self._waiting.clear()

    def report(self, active_pairs: DeviceArray) -> None:
        """Have the counter copied once the launches so far are done."""
        slot = self._count % len(self._slots)
        self._count += 1
        self._device.download_into(self._slots[slot : slot + 1], active_pairs)
        self._waiting.append((self._device.event(), slot))

    def finished(self) -> bool:
        """Return whether a report shows that no pair iterates; wait if too many are open."""
        while self._waiting:
            event, slot = self._waiting[0]
            if len(self._waiting) > TESTS_AHEAD:
                self._device.faults.wait(event)
            elif not self._device.faults.happened(event):
                return False
            self._waiting.popleft()
            if self._slots[slot] == 0:
                return True
        return False


class TileWorkspace:
    """Device memory of a batch, sized for its finest level and used again on every other."""

    def __init__(self, device: CudaDevice, planes: DeviceArray, pixels: int, tiles: int) -> None:
        self.pairs = len(planes)
        self.planes = planes
        self.u = device.empty((2, self.pairs, pixels, 2), np.float32)
        self.q = device.empty((2, self.pairs, pixels, 4), np.float32)
        self.terms = device.empty((self.pairs, pixels, 4), np.float32)
        self.states = device.empty((self.pairs, 5), np.int32)
        self.changes = device.empty((self.pairs, tiles), np.float32)
        self.counts = device.empty((2,), np.int32)
        self.progress = TileProgress(device)
        # Of the level at hand, (m, height, width), or None: `Pyramids.edge_bounds`.
        self.bounds: DeviceArray | None = None
        # What the first test of each warp of the level at hand measures, (warps, m, blocks), or None.
        self.block_changes: DeviceArray | None = None

    def changes_of(self, warp: int) -> DeviceArray | None:
        """Return what the first test of a warp measures, (m, blocks), or None."""
        return None if self.block_changes is None or warp < 0 else self.block_changes[warp]


class TileSolver:
    """Refines the flow of a batch on levels of any size.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
    sizes : list of (height, width)
        Of the levels, the frame itself first.
    tile : TileShape
    """

    def __init__(self, device: CudaDevice, params: TVL1Params, sizes: list[Size], tile: TileShape) -> None:
        self._device, self._params, self._tile, self._sizes = device, params, tile, sizes
        self._tilings = [tile_level(size, tile, params) for size in sizes]
        self._median = WeightedMedian(device, params) if filters_after(params, "warp") else None
        model = Model.of(params)
        self._kernel = KernelFile.of("tile.cu", {**tile.defines, **model.dual_defines})
        self._skips, self._still = model.skipping, np.float32(still_units(params))
        self._level_file = KernelFile.of("level.cu", model.warp_defines)

    @property
    def iterations_ahead(self) -> int | None:
        """Most iterations that are enqueued before the host waits; None: all of them.

        Each warp waits once more than TESTS_AHEAD tests are open, and begins with none; what the one before
        had open then may still be at work.
        """
        params, most = self._params, (TESTS_AHEAD + 1) * self._params.check_every
        waits = params.epsilon > 0 and params.iterations > most
        return 2 * (most + params.check_every) if waits else None

    def workspace(self, planes: DeviceArray) -> TileWorkspace:
        """Return memory for a batch; `planes`: int32 device array (m, 2), the planes of each pair."""
        height, width = self._sizes[0]
        return TileWorkspace(self._device, planes, height * width, max(t.count for t in self._tilings))

    def solve_level(
        self,
        level: int,
        frames: DeviceArray,
        flows: tuple[DeviceArray | None, DeviceArray],
        counts: DeviceArray,
        *,
        work: TileWorkspace,
        duals: tuple[DeviceArray | None, DeviceArray | None] = (None, None),
        bounds: DeviceArray | None = None,
    ) -> None:
        """Refine the flow of every pair on one level (twin: `reference.solver.solve_level`).

        Parameters
        ----------
        level : int
        frames : float32 device array, (planes, height, width)
        flows : (device array or None, device array), (m, 2, height, width)
            The start, None being zero, and the result.
        counts : int32 device array
            Receives the first pair's iterations, one for each warp.
        work : TileWorkspace
        duals : (device array or None, device array or None), (m, 4, height, width)
            Those of the dual variable, as in `LevelState`; no result is kept where it is None.
        bounds : float32 device array, (m, height, width), or None
            Those of `Pyramids.edge_bounds`.
        """
        work.bounds, (height, width) = bounds, self._sizes[level]
        if self._skips:
            blocks = block_count((height, width))
            work.block_changes = self._device.zeros((self._params.warps, work.pairs, blocks), np.int32)
        size = np.int32(width), np.int32(height)
        fresh = (
            or_null(flows[0]),
            or_null(duals[0]),
            work.u,
            work.q,
            work.states,
            work.counts,
            np.int32(work.pairs),
            *size,
        )
        self._per_pixel("flowkit_start_level", level, work, fresh)
        for warp in range(self._params.warps):
            self._linearise(level, warp, frames, work)
            self._solve_warp(level, warp, counts[warp:], work)
            if self._median is not None:
                self._median.filter_warp(frames, work.planes, (work.u, work.states), level)
        args = (work.u, work.q, work.states, flows[1], or_null(duals[1]), np.int32(work.pairs), *size)
        self._per_pixel("flowkit_finish_level", level, work, args)

    def _linearise(self, level: int, warp: int, frames: DeviceArray, work: TileWorkspace) -> None:
        """Warp by the flow so far, and make every pair active whose level goes on (twin: `linearise`)."""
        params, (height, width) = self._params, self._sizes[level]
        floats = map(np.float32, (params.bicubic_a, params.lambda_ * params.theta))
        args = (frames, work.planes, work.u, work.terms, work.states, work.counts)
        ints = map(np.int32, (work.pairs, width, height))
        clamp = np.int32(params.border == "clamp")
        blocks = or_null(work.changes_of(warp - 1)), self._still
        self._per_pixel("flowkit_linearise", level, work, (*args, *ints, *floats, clamp, *blocks))

    def _solve_warp(self, level: int, warp: int, counts: DeviceArray, work: TileWorkspace) -> None:
        """Launch until no pair is active (twin: `reference.solver.solve_warp`)."""
        height, width = self._sizes[level]
        ints = tuple(map(np.int32, (work.pairs, width, height)))
        changes, settled = work.changes_of(warp), None
        work.progress.start()
        for launch in launches(self._params, self._tilings[level].halo):
            if launch.median:
                self._per_pixel("flowkit_median", level, work, (work.u, work.states, *ints))
            measured = changes if launch.measures_blocks else None
            blocks = or_null(measured), or_null(settled), self._still
            self._iterate(level, launch, counts, work, blocks)
            settled = measured if launch.measures_blocks else settled
            if launch.test:
                work.progress.report(work.counts[:1])
                if work.progress.finished():
                    return

    def _iterate(
        self,
        level: int,
        launch: Launch,
        counts: DeviceArray,
        work: TileWorkspace,
        blocks: tuple[object, ...],
    ) -> None:
        params, (height, width), tiling = self._params, self._sizes[level], self._tilings[level]
        arrays = (work.terms, work.u, work.q, work.states, work.changes, counts, work.counts)
        sizes = (work.pairs, width, height, tiling.across, tiling.down, tiling.halo)
        slots = len(self._sizes) * params.warps
        test = launch.test + launch.ends_level  # flowkit::Test
        ints = map(np.int32, (*sizes, launch.steps, test, slots))
        enough = params.epsilon**2 * height * width
        floats = map(np.float32, (enough, params.tau, params.tau / params.theta, params.theta))
        grid = (work.pairs * tiling.count,)
        args = (*arrays, *ints, *floats, or_null(work.bounds), *blocks)
        kernel = (self._kernel, "flowkit_tile")
        self._device.launch(kernel, grid, 32 * self._tile.warps, args, level=level)

    def _per_pixel(self, name: str, level: int, work: TileWorkspace, args: tuple[object, ...]) -> None:
        """Launch a kernel of level.cu with a thread for each pixel of each pair."""
        height, width = self._sizes[level]
        grid = (blocks(height * width), work.pairs)
        self._device.launch((self._level_file, name), grid, THREADS, args, level=level)
