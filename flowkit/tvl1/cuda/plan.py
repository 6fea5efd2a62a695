"""The plan of a batch, made without a GPU before any kernel runs: tables, tiles, iterations a launch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda.blocks import skips_blocks
from flowkit.tvl1.params import FilterAfter, TVL1Params
from flowkit.tvl1.reference.pyramid import (
    GAUSSIAN_WINDOW_SIGMAS,
    ZOOM_BICUBIC_A,
    ZOOM_SIGMA_PX,
    level_sizes,
)
from flowkit.tvl1.reference.sampling import keys_weights
from flowkit.tvl1.reference.steps import EDGE_BLUR_RADIUS, EDGE_BLUR_SIGMA_PX
from flowkit.validate import check_that

Size = tuple[int, int]
"""(height, width) in px."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AxisTable:
    """The taps of each pixel of a resampled line.

    Attributes
    ----------
    index : int32 array, (taps, length)
        Positions in the line before, each inside it.
    weights : float32 array, (taps, length)
    """

    index: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def taps(self) -> int:
        """Number of taps of a pixel."""
        return len(self.index)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resampling:
    """One step of a pyramid: both axes, the horizontal one first, then `gain`."""

    horizontal: AxisTable
    vertical: AxisTable
    gain: float = 1.0


def _table(index: NDArray[np.integer], weights: NDArray[np.float64]) -> AxisTable:
    return AxisTable(
        index=np.ascontiguousarray(index, np.int32), weights=np.ascontiguousarray(weights, np.float32)
    )


def linear_table(side: int, length: int, stride: float, shift: float) -> AxisTable:
    """Interpolate linearly at (i + shift) * stride - shift, clamped to the line.

    Twins: `resize_bilinear` with shift 1/2, `zoom_bilinear` with shift 0.
    """
    at = np.clip((np.arange(length) + shift) * stride - shift, 0, side - 1)
    left = np.floor(at).astype(np.int32)
    fraction = at - left
    return _table(np.stack([left, np.minimum(left + 1, side - 1)]), np.stack([1 - fraction, fraction]))


def cubic_table(side: int, length: int, stride: float) -> AxisTable:
    """Interpolate bicubically at i * stride. Twins: `zoom_in`, and `zoom_out` after its blur."""
    at = np.minimum(np.arange(length) * stride, side + 2)
    left = np.floor(at).astype(np.int32)
    index = np.clip(left + np.arange(-1, 3)[:, None], 0, side - 1)
    return _table(index, np.stack(keys_weights(at - left, ZOOM_BICUBIC_A)))


def pyr_down_table(side: int) -> AxisTable:
    """Blur with (1, 4, 6, 4, 1) / 16, keep every second pixel. Twin: `pyr_down`."""
    index = 2 * np.arange((side + 1) // 2) + np.arange(-2, 3)[:, None]
    period = max(1, 2 * (side - 1))
    index = np.abs(index) % period
    weights = np.array([1, 4, 6, 4, 1]) / 16
    return _table(np.minimum(index, period - index) if side > 1 else 0 * index, _spread(weights, index))


def gaussian_table(side: int, sigma: float) -> AxisTable:
    """Blur with a Gaussian cut at five sigma, IPOL's border. Twin: `gaussian_blur`."""
    radius = int(GAUSSIAN_WINDOW_SIGMAS * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    index = np.arange(side) + offsets[:, None]
    while index.min() < 0 or index.max() >= side:
        index = np.abs(index)
        index = np.where(index >= side, 2 * side - 1 - index, index)
    return _table(index, _spread(kernel / kernel.sum(), index))


def edge_blur(size: Size) -> Resampling:
    """Return the blur before the gradient of the edge weights (twin: `edge_weight`)."""
    offsets = np.arange(-EDGE_BLUR_RADIUS, EDGE_BLUR_RADIUS + 1)
    kernel = np.exp(-(offsets**2) / (2 * EDGE_BLUR_SIGMA_PX**2))

    def table(side: int, _: int) -> AxisTable:
        index = np.clip(np.arange(side) + offsets[:, None], 0, side - 1)
        return _table(index, _spread(kernel / kernel.sum(), index))

    return _both(size, size, table)


def _spread(kernel: NDArray[np.float64], index: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.broadcast_to(kernel[:, None], index.shape)


def _both(size: Size, new_size: Size, table: Callable[[int, int], AxisTable], gain: float = 1) -> Resampling:
    vertical, horizontal = (table(side, length) for side, length in zip(size, new_size, strict=True))
    return Resampling(horizontal=horizontal, vertical=vertical, gain=gain)


def presmoothing(size: Size, params: TVL1Params) -> tuple[Resampling, ...]:
    """Return the steps from the grey frame to the lowest level: a blur or none."""
    sigma = params.presmooth_sigma
    return (_both(size, size, lambda side, _: gaussian_table(side, sigma)),) if sigma else ()


def shrinking(size: Size, new_size: Size, params: TVL1Params) -> tuple[Resampling, ...]:
    """Return the steps from one level to the next coarser one (twin: `build_pyramid`)."""
    stride = 1 / params.scale_step
    if params.pyramid == "pyrdown":
        return (_both(size, new_size, lambda side, _: pyr_down_table(side)),)
    if params.pyramid == "gaussian":
        sigma = ZOOM_SIGMA_PX * math.sqrt(stride**2 - 1)
        return (
            _both(size, size, lambda side, _: gaussian_table(side, sigma)),
            _both(size, new_size, lambda side, length: cubic_table(side, length, stride)),
        )
    return (_both(size, new_size, lambda side, length: linear_table(side, length, stride, 0.5)),)


def flow_upsampling(size: Size, new_size: Size, params: TVL1Params) -> Resampling:
    """Return the step that brings the flow to the next finer level (twin: `upsample_flow`)."""
    gain = 1 / params.scale_step
    if params.pyramid == "gaussian":
        return _both(size, new_size, lambda side, length: cubic_table(side, length, side / length), gain)
    shift = 0.0 if params.pyramid == "pyrdown" else 0.5
    return _both(size, new_size, lambda side, length: linear_table(side, length, side / length, shift), gain)


def filters_after(params: TVL1Params, what: FilterAfter) -> bool:
    """Return whether the weighted median comes after each warp or after each level."""
    return params.weighted_median > 0 and params.weighted_median_after == what


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """The parts of the model that kernels are compiled for; as made by default, the published one.

    Parameters
    ----------
    gradient_taps : {3, 5}
    warp_snap : float
    projected : bool
        The dual step is the projected one.
    weighted : bool
        It is bounded by the weights of a plane.
    carried : bool
        The dual variable outlives a launch of the cluster solver: for the finer level or the next warp.
    skipping : bool
        Still blocks iterate no more.
    """

    gradient_taps: int = 3
    warp_snap: float = 0.0
    projected: bool = False
    weighted: bool = False
    carried: bool = False
    skipping: bool = False

    @classmethod
    def of(cls, params: TVL1Params) -> Model:
        """Return the model of these parameters."""
        return cls(
            gradient_taps=params.gradient_taps,
            warp_snap=params.warp_snap,
            projected=params.dual == "projected",
            weighted=params.edge_alpha > 0,
            carried=params.dual_start == "coarser" or filters_after(params, "warp"),
            skipping=skips_blocks(params),
        )

    @property
    def warp_defines(self) -> dict[str, float]:
        """The macros of linearise.cuh and blocks.cuh; none for the published model."""
        taps = 0 if self.gradient_taps == 3 else self.gradient_taps
        parts = {"GRADIENT_TAPS": taps, "WARP_SNAP": self.warp_snap, "SKIPPING": int(self.skipping)}
        return {f"FLOWKIT_{name}": value for name, value in parts.items() if value}

    @property
    def dual_defines(self) -> dict[str, int]:
        """The macros of core.cuh and blocks.cuh; none for the published model."""
        parts = {"PROJECTED": self.projected, "WEIGHTED": self.weighted, "SKIPPING": self.skipping}
        return {f"FLOWKIT_{name}": 1 for name, defined in parts.items() if defined}

    @property
    def cluster_defines(self) -> dict[str, float]:
        """The macros of cluster.cu; none for the published model."""
        return {**self.warp_defines, **self.dual_defines, **({"FLOWKIT_CARRIED": 1} if self.carried else {})}


PUBLISHED = Model()
WHOLE = Model(gradient_taps=5, warp_snap=0.0625, projected=True, weighted=True, carried=True, skipping=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TileShape:
    """Sizes that the tile solver is compiled for.

    Parameters
    ----------
    columns, rows : int
        Pixels of one thread, side by side and below one another.
    warps : int
        Of one block. A tile is 32 * columns px wide and rows * warps px high.
    halo : int
        Most iterations per launch where a level takes more than one tile.
    """

    columns: int = 2
    rows: int = 4
    warps: int = 16
    halo: int = 10

    def __post_init__(self) -> None:
        """Check that a tile has an inside."""
        inside = min(self.columns, self.rows, self.warps, self.halo) >= 1 and min(self.size) > 2 * self.halo
        expected = "more than 2 * halo px wide and high"
        check_that("a tile", self, inside, expected, remedy="lower the halo")

    @property
    def size(self) -> Size:
        """(height, width) of a tile, px."""
        return self.rows * self.warps, 32 * self.columns

    @property
    def defines(self) -> dict[str, int]:
        """The macros that tile.cu is compiled with."""
        return {"FLOWKIT_COLUMNS": self.columns, "FLOWKIT_ROWS": self.rows, "FLOWKIT_WARPS": self.warps}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """The tiles of a level: their number and their overlap (most iterations per launch)."""

    down: int
    across: int
    halo: int

    @property
    def count(self) -> int:
        """Tiles of one pair."""
        return self.down * self.across


def tile_level(size: Size, shape: TileShape, params: TVL1Params) -> Tiling:
    """Cover a level with tiles.

    A level that fits one tile has no cut edges: as many iterations as a test leaves together.
    Otherwise they are divided evenly over launches of at most `shape.halo`.
    """
    period = min(interruption_periods(params))
    if size[0] <= shape.size[0] and size[1] <= shape.size[1]:
        return Tiling(down=1, across=1, halo=period)
    halo = math.ceil(period / math.ceil(period / shape.halo))
    counts = (
        1 if side <= extent else math.ceil((side - 2 * halo) / (extent - 2 * halo))
        for side, extent in zip(size, shape.size, strict=True)
    )
    down, across = counts
    return Tiling(down=down, across=across, halo=halo)


def interruption_periods(params: TVL1Params) -> tuple[int, ...]:
    """Return the periods, in iterations, of the end, the tests and the medians."""
    tests = (params.check_every,) if params.epsilon > 0 else ()
    medians = (params.median_every,) if params.median else ()
    return (params.iterations, *tests, *medians)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One launch of the tile solver: its iterations, with a median before or a test after them.

    A pair that stops at a test that `ends_level` takes no part in the level's later warps.
    """

    median: bool
    steps: int
    test: bool
    ends_level: bool = False
    measures_blocks: bool = False


def launches(params: TVL1Params, most_steps: int) -> Iterator[Launch]:
    """Yield the launches of one warp in which no pair stops (twin: `reference.solver.solve_warp`)."""
    periods, done = interruption_periods(params)[1:], 0
    check_first = params.check_first if params.epsilon > 0 else 0
    while done < params.iterations:
        ends = [params.iterations - done, most_steps, *(period - done % period for period in periods)]
        if done < check_first:
            ends.append(check_first - done)
        median = params.median > 0 and done % params.median_every == 0
        done += min(ends)
        first, again = done == check_first, done % params.check_every == 0
        test = params.epsilon > 0 and (first or again) and done < params.iterations
        ends_level = test and first and done < params.check_every
        blocks = test and first and skips_blocks(params)
        yield Launch(median=median, steps=min(ends), test=test, ends_level=ends_level, measures_blocks=blocks)


_SLOWEST_RATE = 1e9
"""Pixel-iterations per second below which no GPU that runs the kernels falls. By the counts of docs/cuda.md
the smallest (a T400, an Orin Nano) reach 4e9 alone; others may be at work on it."""

_SLOWEST_CLUSTER_RATE = 1e10
"""The same of clusters: an H200 does 2.9e11, so a seventh of one 4e10."""

_MEDIAN_ITERATIONS = 100
"""Iterations that take as long as a weighted median, at most: of 7x7 px, by its instructions."""

_SLOWEST_COPY = 1e9
"""Bytes per second of pinned memory made and copied, likewise."""


def work_seconds(pairs: int, size: Size, params: TVL1Params, *, iterations_ahead: int | None) -> float:
    """Return the longest time that a batch may keep the slowest GPU between two signs of life, alone.

    Parameters
    ----------
    pairs : int
        Of the batch.
    size : (height, width)
        Of the frames, px.
    params : TVL1Params
    iterations_ahead : int or None
        Most iterations of a level that are enqueued before the host waits; None: all of every level.
    """
    pixels = size[0] * size[1]
    iterations = iterations_ahead or params.warps * params.iterations
    iterations += params.warps * _MEDIAN_ITERATIONS if params.weighted_median else 0
    levels = pixels if iterations_ahead else sum(h * w for h, w in level_sizes(size, params))
    return pairs * (levels * iterations / _SLOWEST_RATE + 8 * pixels / _SLOWEST_COPY)


def cluster_seconds(pairs: int, levels: Iterable[Size], params: TVL1Params) -> float:
    """Return the longest time that clusters keep the slowest GPU, with all levels enqueued at once, alone.

    Parameters
    ----------
    pairs : int
        Of the batch.
    levels : iterable of (height, width)
        Those that clusters solve, px.
    params : TVL1Params

    Returns
    -------
    float
        Seconds, the copies of the frames and the flow included.
    """
    sizes = [height * width for height, width in levels]
    medians = params.warps if filters_after(params, "warp") else filters_after(params, "level")
    iterations = params.warps * params.iterations + medians * _MEDIAN_ITERATIONS
    copied = 8 * max(sizes, default=0)
    return pairs * (sum(sizes) * iterations / _SLOWEST_CLUSTER_RATE + copied / _SLOWEST_COPY)


def bytes_per_pair(size: Size, params: TVL1Params, *, frame_bytes: int) -> int:
    """Return the device memory that one more pair takes, with two frames of its own.

    Per pixel of the flow: both buffers of u (8 bytes each) and q (16), the data term (16), and the
    flow of two levels (8 each). Per pixel of a frame: its grey values, all levels (4 bytes), and one
    level resampled along one axis. With edge weights, theirs of two levels (4 each), and for a frame
    a level blurred along one axis and both. With a weighted median, the flow that it filters (8).
    With a dual variable that is handed on, that of two levels (16 each), or between a cluster's warps.
    """
    sizes = [height * width for height, width in level_sizes(size, params)]
    pixels, levels = sizes[0], sum(sizes)
    handed_on = sum(sizes[:2]) if params.dual_start == "coarser" and len(sizes) > 1 else 0
    between = pixels * (2 if handed_on else 1) if filters_after(params, "warp") else 0
    edges = pixels * (2 * 4 + 2 * 2 * 4) if params.edge_alpha else 0
    filtered = 8 * pixels if params.weighted_median else 0
    duals = 16 * max(handed_on, between)
    flow = pixels * (2 * 8 + 2 * 16 + 16 + 2 * 8) + edges + filtered + duals
    return flow + 2 * (pixels * (frame_bytes + 4) + 4 * levels)
