"""The cluster solver's side of a batch: one launch a level or warp, for levels that fit a cluster."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from flowkit.errors import BackendUnavailableError
from flowkit.tvl1.cuda import driver
from flowkit.tvl1.cuda.blocks import block_count, still_units
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray, KernelFile, or_null
from flowkit.tvl1.cuda.plan import PUBLISHED, Model, Size, filters_after
from flowkit.tvl1.cuda.weighted_median import WeightedMedian
from flowkit.tvl1.params import TVL1Params

MOST_BLOCKS = 16
"""Of one cluster, on sm_90 and sm_100; more than 8 need a function attribute."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Division:
    """One way to divide the registers of a processor.

    Parameters
    ----------
    warps : range
        Of a block.
    pixels : int
        Most of a thread, at six registers each and those of its arithmetic.
    resident : int
        Blocks on one processor.
    speed : float
        Of a pixel, measured on an H200 against eight warps.
    """

    warps: range
    pixels: int
    resident: int = 1
    speed: float = 1.0


_DIVISIONS = (
    _Division(warps=range(8, 0, -1), pixels=24),
    _Division(warps=range(12, 8, -1), pixels=16, speed=1.05),
    _Division(warps=range(16, 12, -1), pixels=12, speed=1.03),
    _Division(warps=range(8, 6, -1), pixels=12, speed=1.05, resident=2),
)
_MOST_ROWS = 4
_ONE_ROW_SPEED = 0.93
"""With one row a thread, since every row goes through shared memory."""

_GROUPS = (18, 18, 16, 16, 16, 16, 16, 8)
"""Processors that can share a cluster, on an H200: by how many clusters of 2 to 16 blocks it holds."""

_PROCESSOR_SHARED_BYTES = 228 * 1024
_RESERVED_SHARED_BYTES = 1024
"""Of each block, by the driver."""

_BARRIER_BYTES = 8
_ALIGNMENT_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClusterShape:
    """Sizes that the cluster solver is compiled for, by the size of a level.

    Parameters
    ----------
    columns, rows : int
        Pixels of one thread, side by side and below one another; 32 threads span a row.
    warps : int
        Of one block.
    blocks : int
        Of one cluster.
    resident : int
        Blocks that one processor holds at least: fewer registers for each thread.
    whole_columns, whole_rows : bool
        Whether the level's width and height are multiples of `columns` and `rows`: only the last pixels
        of a thread can be at the border then.
    model : Model
    """

    columns: int
    rows: int
    warps: int
    blocks: int
    resident: int = 1
    whole_columns: bool = False
    whole_rows: bool = False
    model: Model = PUBLISHED

    @property
    def defines(self) -> dict[str, float]:
        """The macros that cluster.cu is compiled with."""
        return {
            "FLOWKIT_COLUMNS": self.columns,
            "FLOWKIT_ROWS": self.rows,
            "FLOWKIT_WARPS": self.warps,
            "FLOWKIT_CLUSTER": self.blocks,
            "FLOWKIT_RESIDENT": self.resident,
            "FLOWKIT_SHARED_BYTES": self.shared_bytes,
            "FLOWKIT_WHOLE_COLUMNS": int(self.whole_columns),
            "FLOWKIT_WHOLE_ROWS": int(self.whole_rows),
            **self.model.cluster_defines,
        }

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block; cluster.cu asserts that its struct Shared has this size."""
        row = 32 * self.columns
        pixel = 16 + (4 if self.model.weighted else 0)
        data, rows = pixel * self.warps * self.rows * row, 2 * 8 * (self.warps + 1) * row
        changes, barriers = 2 * 4 * self.blocks * self.warps, _BARRIER_BYTES * (2 + 2 * self.warps)
        size = data + rows + changes + barriers
        return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    def fitted(self, size: Size) -> ClusterShape:
        """Return the shape for a level of this size, (height, width)."""
        height, width = size
        whole_columns, whole_rows = width % self.columns == 0, height % self.rows == 0
        return dataclasses.replace(self, whole_columns=whole_columns, whole_rows=whole_rows)

    @property
    def kernel(self) -> tuple[KernelFile, str]:
        """The kernel, compiled for this shape."""
        return KernelFile.of("cluster.cu", self.defines), "flowkit_cluster"


@functools.lru_cache(maxsize=256)
def cluster_shape(size: Size, model: Model = PUBLISHED) -> ClusterShape | None:
    """Return the cluster that one pair of this size takes, or None where it does not fit.

    Of the shapes that fit, the one by which an H200 should be fastest (docs/cuda.md has the timings).

    Parameters
    ----------
    size : (height, width)
        Of the level, px.
    model : Model
    """
    return max(_shapes(size, model), key=lambda shape: shape[0], default=(0.0, None))[1]


def _shapes(size: Size, model: Model) -> Iterator[tuple[float, ClusterShape]]:
    """Yield the shapes that fit a level, each with its expected speed in pixels."""
    height, width = size
    columns = -(-width // 32)
    for division in _DIVISIONS:
        most_rows = min(_MOST_ROWS, division.pixels // columns)
        for rows, warps in itertools.product(range(1, most_rows + 1), division.warps):
            blocks = -(-height // (rows * warps))
            shape = ClusterShape(
                columns=columns,
                rows=rows,
                warps=warps,
                blocks=blocks,
                resident=division.resident,
                model=model,
            )
            shared = division.resident * (shape.shared_bytes + _RESERVED_SHARED_BYTES)
            if blocks <= MOST_BLOCKS and shared <= _PROCESSOR_SHARED_BYTES:
                yield _expected_speed(shape, height) * division.speed, shape


def _expected_speed(shape: ClusterShape, height: int) -> float:
    """Return the processors that clusters of this shape keep busy, less what they do in vain."""
    clusters = sum(group * shape.resident // shape.blocks for group in _GROUPS)
    processors = clusters * shape.blocks / shape.resident
    rows_in_use = height / (shape.blocks * shape.warps * shape.rows)
    # A processor has four schedulers.
    warps = shape.warps * shape.resident
    turns_in_use = warps / max(8, -(-warps // 4) * 4)
    return processors * rows_in_use * turns_in_use * (_ONE_ROW_SPEED if shape.rows == 1 else 1.0)


def active_clusters(device: CudaDevice, shape: ClusterShape) -> int:
    """Return how many clusters of a shape the GPU can hold at once; 0: a launch would be refused.

    Raises
    ------
    GpuError
        The GPU failed.
    BackendUnavailableError
        The driver knows no clusters.
    """
    kernel = device.function(*shape.kernel, shared_bytes=shape.shared_bytes)
    status, clusters = driver.max_active_clusters(
        kernel.ptr, blocks=shape.blocks, threads=shape.threads, shared_bytes=shape.shared_bytes
    )
    device.faults.check_status(status)
    return clusters


class ClusterSolver:
    """Refines the flow of a batch on levels that fit a cluster.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
        With a median no level fits: it needs neighbours that a cluster does not exchange.
    sizes : list of (height, width)
        Of the levels, the frame itself first.
    shape_of : callable
        Returns the cluster of a level's size and a model, or None where none fits; benchmarks try others.
    """

    def __init__(
        self,
        device: CudaDevice,
        params: TVL1Params,
        sizes: list[Size],
        *,
        shape_of: Callable[[Size, Model], ClusterShape | None] = cluster_shape,
    ) -> None:
        self._device, self._params, self._sizes = device, params, sizes
        model = Model.of(params)
        self._skips = model.skipping
        self._median = WeightedMedian(device, params) if filters_after(params, "warp") else None
        self._shapes = [self._usable(shape_of(size, model), size) for size in sizes]

    def _usable(self, shape: ClusterShape | None, size: Size) -> ClusterShape | None:
        able = self._device.has_clusters and not self._params.median
        if shape is None or not able or shape.shared_bytes > self._device.shared_bytes:
            return None
        shape = shape.fitted(size)
        try:
            clusters, why = active_clusters(self._device, shape), "it has no room for one"
        except BackendUnavailableError as error:
            clusters, why = 0, str(error)
        if not clusters:
            warnings.warn(
                f"{self._device.name}: no clusters of {shape.blocks} blocks of {shape.threads} threads and "
                f"{shape.shared_bytes} bytes of shared memory ({why}); tiles solve that level",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return shape

    def fits(self, level: int) -> bool:
        """Return whether `solve_level` takes this level."""
        return self._shapes[level] is not None

    def solve_level(
        self,
        level: int,
        frames: DeviceArray,
        flows: tuple[DeviceArray | None, DeviceArray],
        counts: DeviceArray,
        *,
        planes: DeviceArray,
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
            Zero; receives the first pair's iterations, one for each warp.
        planes : int32 device array, (m, 2)
            The planes of each pair.
        duals : (device array or None, device array or None), (m, 4, height, width)
            Those of the dual variable, as in `LevelState`; no result is kept where it is None.
        bounds : float32 device array, (m, height, width), or None
            Those of `Pyramids.edge_bounds`.
        """
        warps, median, pairs = self._params.warps, self._median, len(planes)
        blocks, (height, width) = block_count(self._sizes[level]), self._sizes[level]
        changes = self._device.zeros((warps, pairs, blocks), np.int32) if self._skips else None
        images = frames, planes, bounds, changes
        if median is None:
            self._launch(level, images, flows, duals, counts, warps=(0, warps))
            return
        # A pair whose level has ended keeps the flow of its warp, and so has the filtered one again.
        warped = self._device.empty((pairs, 2, height, width), np.float32)
        dual = self._device.empty((pairs, 4, height, width), np.float32) if duals[1] is None else duals[1]
        start, dual_start = flows[0], duals[0]
        for warp in range(warps):
            both = (start, warped), (dual_start, dual)
            self._launch(level, images, *both, counts, warps=(warp, warp + 1))
            median.filter_level(frames, planes, (warped, flows[1]), level)
            start, dual_start = flows[1], dual

    def _launch(
        self,
        level: int,
        images: tuple[DeviceArray, DeviceArray, DeviceArray | None, DeviceArray | None],
        flows: tuple[DeviceArray | None, DeviceArray],
        duals: tuple[DeviceArray | None, DeviceArray | None],
        counts: DeviceArray,
        *,
        warps: tuple[int, int],
    ) -> None:
        """Do a level's warps [first, end).

        `images`: frames, planes and bounds, as for `solve_level`, and int32 zeros (warps, m, blocks) for
        what the first tests measure, or None.
        """
        params, shape, (height, width) = self._params, self._shapes[level], self._sizes[level]
        assert shape is not None
        frames, planes, bounds, changes = images
        arrays = (frames, planes, or_null(flows[0]), or_null(duals[0]), flows[1], or_null(duals[1]), counts)
        slots = len(self._sizes) * params.warps
        tests = (params.check_every, params.check_first) if params.epsilon > 0 else (0, 0)
        ints = (slots, width, height, *warps, params.iterations, *tests)
        floats = (params.epsilon**2 * height * width, params.bicubic_a, params.lambda_ * params.theta)
        args = (
            *(*arrays, *map(np.int32, ints), *map(np.float32, floats)),
            np.int32(params.border == "clamp"),
            *map(np.float32, (params.tau, params.tau / params.theta, params.theta)),
            or_null(bounds),
            or_null(changes),
            np.float32(still_units(params)),
        )
        grid = (len(planes) * shape.blocks,)
        self._device.launch(
            shape.kernel, grid, shape.threads, args, shared_bytes=shape.shared_bytes, level=level
        )
