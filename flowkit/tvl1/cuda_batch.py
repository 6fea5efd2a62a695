"""One batch of pairs on the device: levels, warps, launches.

The host only enqueues. How far the pairs are it learns from a counter that is copied to pinned
memory after each test, some launches late: pairs that have stopped skip the launches in between,
so that nothing depends on when the host looks.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda_device import NULL, THREADS, CudaDevice, DeviceArray, KernelFile, blocks, wait_politely
from flowkit.tvl1.cuda_plan import Launch, Size, TileShape, launches, tile_level
from flowkit.tvl1.cuda_pyramid import Pyramids
from flowkit.tvl1.params import TVL1Params

_FILE = KernelFile(source="level.cu")

TESTS_AHEAD = 3
"""Tests whose outcome the host may still be waiting for when it enqueues more launches."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchResult:
    """What a batch gives, on the device.

    Attributes
    ----------
    flow : float32 device array, (m, 2, H, W)
        u to the right, v downwards, px.
    iterations : int32 device array, (m, levels * warps)
        Those of each warp, the coarsest level first.
    """

    flow: DeviceArray
    iterations: DeviceArray


class Progress:
    """How many pairs still iterate, learnt without stopping the device."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        # A report is read before more than TESTS_AHEAD newer ones exist: no slot is overwritten.
        self._slots = device.pinned((TESTS_AHEAD + 2,), np.int32)
        self._waiting: collections.deque[tuple[Any, int]] = collections.deque()
        self._count = 0

    def start(self) -> None:
        """Forget the reports of the warp before."""
        self._waiting.clear()

    def report(self, active_pairs: DeviceArray) -> None:
        """Have the counter copied once the launches so far are done."""
        slot = self._count % len(self._slots)
        self._count += 1
        self._device.download_into(self._slots[slot : slot + 1], active_pairs)
        self._waiting.append((self._device.event(), slot))

    def finished(self) -> bool:
        """Tell whether a report says that no pair iterates; waits where too many are open."""
        while self._waiting:
            event, slot = self._waiting[0]
            if len(self._waiting) > TESTS_AHEAD:
                wait_politely(event)
            elif not event.done:
                return False
            self._waiting.popleft()
            if self._slots[slot] == 0:
                return True
        return False


class _Workspace:
    """Device memory of a batch, sized for its finest level and used again on every other."""

    def __init__(self, device: CudaDevice, planes: NDArray[np.int32], pixels: int, tiles: int) -> None:
        self.pairs = len(planes)
        self.planes = device.upload(np.ascontiguousarray(planes))
        self.u = device.empty((2, self.pairs, pixels, 2), np.float32)
        self.q = device.empty((2, self.pairs, pixels, 4), np.float32)
        self.terms = device.empty((self.pairs, pixels, 4), np.float32)
        self.states = device.empty((self.pairs, 4), np.int32)
        self.changes = device.empty((self.pairs, tiles), np.float32)
        self.active = device.empty((1,), np.int32)
        self.progress = Progress(device)


class BatchSolver:
    """Solves batches of one frame size with one set of parameters.

    Everything runs on the current device and stream of whoever calls.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
    size : (height, width)
        Of the frames, px.
    tile : TileShape
    """

    def __init__(self, device: CudaDevice, params: TVL1Params, size: Size, tile: TileShape) -> None:
        self._device, self._params, self._tile = device, params, tile
        self._pyramids = Pyramids(device, params, size)
        self._sizes = self._pyramids.sizes
        self._tilings = [tile_level(size, tile, params) for size in self._sizes]

    @property
    def levels(self) -> int:
        """How many levels the pyramid has."""
        return len(self._sizes)

    def solve(
        self, frames: DeviceArray, pairs: NDArray[np.int32], out: DeviceArray | None = None
    ) -> BatchResult:
        """Enqueue the solution of every pair; nothing is waited for but the counter.

        Parameters
        ----------
        frames : device array, (n, H, W), uint8 or float32 in [0, 255], C-contiguous
        pairs : int32 array, (m, 2), m >= 1
            On the host; each frame should be named by some pair.
        out : float32 device array, (m, 2, H, W), optional
            Where the flow is to lie; default: new memory.
        """
        pyramid, planes = self._pyramids.build(frames, pairs)
        height, width = self._sizes[0]
        tiles = max(tiling.count for tiling in self._tilings)
        work = _Workspace(self._device, planes, height * width, tiles)
        iterations = self._device.zeros((work.pairs, self.levels * self._params.warps), np.int32)
        flow: DeviceArray | None = None
        for level in reversed(range(self.levels)):
            if flow is not None:
                flow = self._pyramids.upsample(flow, level)
            first = (self.levels - 1 - level) * self._params.warps
            counts = iterations.reshape(-1)[first:]
            target = out
            if level > 0 or out is None:
                target = self._device.empty((work.pairs, 2, *self._sizes[level]), np.float32)
            self._solve_level(level, pyramid[level], (flow, target), counts, work)
            flow = target
        return BatchResult(flow=flow, iterations=iterations)

    def _solve_level(
        self,
        level: int,
        frames: DeviceArray,
        flows: tuple[DeviceArray | None, DeviceArray],
        counts: DeviceArray,
        work: _Workspace,
    ) -> None:
        """Refine the flow of every pair on one level (twin: `reference.solve_level`).

        `flows`: where it starts, None being zero, and where it goes.
        """
        height, width = self._sizes[level]
        size = np.int32(width), np.int32(height)
        start = NULL if flows[0] is None else flows[0]
        self._per_pixel("flowkit_start_level", level, work, (start, work.u, work.q, work.states, *size))
        for warp in range(self._params.warps):
            self._linearise(level, frames, work)
            self._solve_warp(level, counts[warp:], work)
        args = (work.u, work.states, flows[1], np.int32(work.pairs), *size)
        self._per_pixel("flowkit_finish_level", level, work, args)

    def _linearise(self, level: int, frames: DeviceArray, work: _Workspace) -> None:
        """Warp by the flow so far, and make every pair active (twin: `linearise`)."""
        params, (height, width) = self._params, self._sizes[level]
        floats = map(np.float32, (params.bicubic_a, params.lambda_ * params.theta))
        args = (frames, work.planes, work.u, work.terms, work.states, work.active)
        ints = map(np.int32, (work.pairs, width, height))
        clamp = np.int32(params.border == "clamp")
        self._per_pixel("flowkit_linearise", level, work, (*args, *ints, *floats, clamp))

    def _solve_warp(self, level: int, counts: DeviceArray, work: _Workspace) -> None:
        """Launch until no pair is active (twin: `reference.solve_warp`)."""
        height, width = self._sizes[level]
        ints = tuple(map(np.int32, (work.pairs, width, height)))
        work.progress.start()
        for launch in launches(self._params, self._tilings[level].halo):
            if launch.median:
                self._per_pixel("flowkit_median", level, work, (work.u, work.states, *ints))
            self._iterate(level, launch, counts, work)
            if launch.test:
                work.progress.report(work.active)
                if work.progress.finished():
                    return

    def _iterate(self, level: int, launch: Launch, counts: DeviceArray, work: _Workspace) -> None:
        params, (height, width), tiling = self._params, self._sizes[level], self._tilings[level]
        arrays = (work.terms, work.u, work.q, work.states, work.changes, counts, work.active)
        sizes = (work.pairs, width, height, tiling.across, tiling.down, tiling.halo)
        slots = self.levels * params.warps
        ints = map(np.int32, (*sizes, launch.steps, launch.test, slots))
        enough = params.epsilon**2 * height * width
        floats = map(np.float32, (enough, params.tau, params.tau / params.theta))
        kernel = (KernelFile.of("tile.cu", self._tile.defines), "flowkit_tile")
        grid = (work.pairs * tiling.count,)
        self._device.launch(kernel, grid, 32 * self._tile.warps, (*arrays, *ints, *floats))

    def _per_pixel(self, name: str, level: int, work: _Workspace, args: tuple[Any, ...]) -> None:
        """Launch a kernel of level.cu with a thread for each pixel of each pair."""
        height, width = self._sizes[level]
        self._device.launch((_FILE, name), (blocks(height * width), work.pairs), THREADS, args)
