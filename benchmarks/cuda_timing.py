"""Sections that time the solvers, frames on the device to flow on the device.

Each figure has the iterations and the pixel-iterations of a pair beside it, since both depend on the
images: without them no figure compares with another.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.cuda_limits import bytes_per_second, instructions_per_second, seconds_of
from benchmarks.cuda_workload import (
    Workload,
    cluster_name,
    images_and_pairs,
    size_name,
    tile_name,
)
from benchmarks.record import JsonObject
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.cluster import ClusterShape, ClusterSolver, active_clusters, cluster_shape
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray, open_device
from flowkit.tvl1.cuda.plan import Model, Size, TileShape
from flowkit.tvl1.cuda.pyramid import Pyramids
from flowkit.tvl1.cuda.state import LevelState
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes

# Of a pixel-iteration, counted (docs/cuda.md): instructions in the solvers' loops for sm_90, and bytes
# that tiles move.
INSTRUCTIONS_PER_PIXEL_ITERATION = {"tile": 46, "cluster": 49}
BYTES_PER_PIXEL_ITERATION = {"tile": 17}

STOPS = {"eps .01": False, "forced": True}
"""Whether all iterations are forced."""

METHODS: tuple[Method, ...] = ("tile", "cluster")
ROUNDS = 2

TILES = (
    TileShape(),
    TileShape(halo=5),
    TileShape(warps=8),
    TileShape(columns=1),
    TileShape(rows=2),
)
_TILE_ITERATIONS = 100
_BOUNDARY_SECONDS = 30.0


def tried(label: JsonObject, work: Callable[[], JsonObject]) -> JsonObject:
    """Return the label with the work's result, or with the reason for which it failed."""
    try:
        return {**label, **work()}
    except Exception as error:  # one configuration must not cost those after it
        return {**label, "failed": f"{type(error).__name__}: {error}"}


def counts(iterations: NDArray[np.int32], size: Size, params: TVL1Params) -> JsonObject:
    """Return the means over pairs of iterations (pairs, levels, warps), coarsest level first."""
    pixels = np.array([height * width for height, width in level_sizes(size, params)[::-1]])
    return {
        "iterations_per_pair": float(iterations.sum(axis=(1, 2)).mean()),
        "pixel_iterations_per_pair": float((iterations.sum(axis=2) * pixels).sum(axis=1).mean()),
    }


def rates(seconds: list[float], pairs: int, counted: JsonObject) -> JsonObject:
    """Return pairs and pixel-iterations a second, by the median, with the counts beside them."""
    each = pairs / statistics.median(seconds)
    done = each * counted["pixel_iterations_per_pair"]
    return {
        "pairs": pairs,
        "seconds": seconds,
        "pairs_per_second": each,
        **counted,
        "pixel_iterations_per_second": done,
    }


@functools.cache
def measured_limits(copy_bytes: int) -> JsonObject:
    """Return the instructions and the bytes of device memory that the GPU does a second."""
    return {
        "instructions_per_second": instructions_per_second(),
        "bytes_per_second": bytes_per_second(copy_bytes),
    }


def limits(workload: Workload) -> Iterator[JsonObject]:
    """Measure the limits of the GPU, of which `fraction_of_...` elsewhere are fractions."""
    yield tried({}, lambda: measured_limits(workload.copy_bytes))


def time_solver(
    workload: Workload,
    params: TVL1Params,
    *,
    size: Size | None = None,
    pairs: int | None = None,
    method: Method = cuda.DEFAULT_METHOD,
    tile: TileShape | None = None,
) -> JsonObject:
    """Time flow from frames on the device to flow on the device."""
    size, tile = size or workload.size, tile or workload.tile
    device, solver = open_device(0), cuda.load(params, method=method, tile=tile)
    host, rows = images_and_pairs(size, pairs or workload.pairs_at(size), workload.video)
    with device.using():
        frames = device.upload(host)
    counted = counts(solver.flow_and_iterations(host, rows[: len(host) - 1])[1], size, params)
    made = rates(seconds_of(lambda: solver.flow_batch(frames, rows)), len(rows), counted)
    fractions = tried({}, lambda: _fractions(made["pixel_iterations_per_second"], method, workload))
    made["tile"] = tile_name(tile)
    return {**made, "levels_by_clusters": levels_by_clusters(method, size, params), "limits": fractions}


def _fractions(done: float, method: Method, workload: Workload) -> JsonObject:
    limit = measured_limits(workload.copy_bytes)
    issued = done * INSTRUCTIONS_PER_PIXEL_ITERATION[method]
    fractions = {"fraction_of_issue": issued / limit["instructions_per_second"]}
    if method in BYTES_PER_PIXEL_ITERATION:
        moved = done * BYTES_PER_PIXEL_ITERATION[method]
        fractions["fraction_of_bandwidth"] = moved / limit["bytes_per_second"]
    return fractions


def levels_by_clusters(method: Method, size: Size, params: TVL1Params) -> str:
    """Return how many of the levels clusters solve, such as "5 of 5"; tiles solve the others."""
    device, sizes = open_device(0), level_sizes(size, params)
    if method == "tile":
        return f"0 of {len(sizes)}"
    with device.faults.boundary(), device.using(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        clusters = ClusterSolver(device, params, sizes)
        return f"{sum(map(clusters.fits, range(len(sizes))))} of {len(sizes)}"


def timing(workload: Workload) -> Iterator[JsonObject]:
    """Time tiles and clusters, to convergence and with all iterations forced, A B A B."""
    yield from limits(workload)
    cases = itertools.product(range(ROUNDS), METHODS, workload.sizes, STOPS.items())
    for turn, method, size, (stop, forced) in cases:
        label = {"turn": turn, "method": method, "size": size_name(size), "stop": stop}
        # Forced iterations take some twenty times as long.
        pairs = max(1, workload.pairs_at(size) // (2 if forced else 1))
        params = workload.params(forced=forced)
        work = functools.partial(time_solver, workload, params, size=size, pairs=pairs, method=method)
        yield tried(label, work)


def presets(workload: Workload) -> Iterator[JsonObject]:
    """Time every preset."""
    for preset in PRESETS:
        label = {"preset": preset, "size": size_name(workload.size)}
        yield tried(label, functools.partial(time_solver, workload, workload.params(preset)))


def batches(workload: Workload) -> Iterator[JsonObject]:
    """Time batches of one pair to all of them."""
    for pairs in sorted({max(1, workload.pairs // part) for part in (256, 64, 16, 4, 2, 1)}):
        work = functools.partial(time_solver, workload, workload.params(), pairs=pairs)
        yield tried({"batch": pairs, "size": size_name(workload.size)}, work)


def tiles(workload: Workload) -> Iterator[JsonObject]:
    """Time shapes of tiles, with the same number of iterations for each."""
    params = workload.params(forced=True)
    params = dataclasses.replace(params, iterations=min(params.iterations, _TILE_ITERATIONS))
    for tile in workload.tiles or TILES:
        label = {"tile": tile_name(tile), "size": size_name(workload.size), "stop": "forced"}
        yield tried(label, functools.partial(time_solver, workload, params, method="tile", tile=tile))


class ChosenClusters:
    """A whole pyramid by clusters of chosen shapes, from frames on the device to flow there.

    Parameters
    ----------
    device : CudaDevice
    params : TVL1Params
    size : (height, width)
    shapes : mapping from (height, width) to ClusterShape
        Of levels; the others have the engine's own.
    """

    def __init__(
        self, device: CudaDevice, params: TVL1Params, size: Size, shapes: Mapping[Size, ClusterShape]
    ) -> None:
        def shape_of(level: Size, model: Model) -> ClusterShape | None:
            chosen = shapes.get(level)
            return dataclasses.replace(chosen, model=model) if chosen else cluster_shape(level, model)

        self._device, self._warps = device, params.warps
        self._pyramids = Pyramids(device, params, size)
        self._clusters = ClusterSolver(device, params, self._pyramids.sizes, shape_of=shape_of)
        missing = [k for k in range(len(self._pyramids.sizes)) if not self._clusters.fits(k)]
        if missing:
            raise ValueError(f"levels {missing} of {size_name(size)} px fit no cluster")

    def solve(self, frames: DeviceArray, pairs: NDArray[np.int32]) -> tuple[DeviceArray, DeviceArray]:
        """Enqueue the flow of every pair, and its iterations (m, levels, warps)."""
        device, sizes = self._device, self._pyramids.sizes
        pyramid, planes_on_host = self._pyramids.build(frames, pairs)
        planes, levels = device.upload(planes_on_host), len(sizes)
        iterations = device.zeros((len(pairs), levels * self._warps), np.int32)
        state: LevelState | None = None
        for level in reversed(range(levels)):
            start = None if state is None else self._pyramids.upsample(state, level).flow
            room = device.empty((2 * len(pairs), *sizes[level]), np.float32)
            state = LevelState(planes=room, pairs=len(pairs))
            slots = iterations.reshape(-1)[(levels - 1 - level) * self._warps :]
            self._clusters.solve_level(level, pyramid[level], (start, state.flow), slots, planes=planes)
        assert state is not None
        return state.flow, iterations.reshape(len(pairs), levels, self._warps)


def cluster_shapes(workload: Workload) -> Iterator[JsonObject]:
    """Time each chosen shape beside the engine's on a level of its size, then all of them together."""
    for size, shape in workload.clusters.items():
        standard = cluster_shape(size)
        for each in (standard, shape) * ROUNDS:
            if each is not None:
                label = {"cluster": cluster_name(each), "size": size_name(size), "levels": 1}
                params = workload.params(levels=1)
                yield tried(label, functools.partial(_time_shapes, workload, params, size, {size: each}))
    for chosen in ({}, dict(workload.clusters)) * ROUNDS:
        label = {"clusters": "chosen" if chosen else "the engine's", "size": size_name(workload.size)}
        work = functools.partial(_time_shapes, workload, workload.params(), workload.size, chosen)
        yield tried(label, work)


def _time_shapes(
    workload: Workload, params: TVL1Params, size: Size, shapes: Mapping[Size, ClusterShape]
) -> JsonObject:
    device, (host, rows) = open_device(0), images_and_pairs(size, workload.pairs_at(size), workload.video)
    with device.faults.boundary(_BOUNDARY_SECONDS), device.using():
        solver, frames = ChosenClusters(device, params, size, shapes), device.upload(host)
        flow, iterations = (array.get() for array in solver.solve(frames, rows[: len(host) - 1]))
        seconds = seconds_of(lambda: solver.solve(frames, rows))
        active = {cluster_name(shape): active_clusters(device, shape) for shape in shapes.values()}
    tiles_flow = cuda.load(params).flow_batch(host, rows[: len(host) - 1])
    return {
        **rates(seconds, len(rows), counts(iterations, size, params)),
        "active_clusters": active,
        "max_px_to_tiles": float(np.abs(flow - tiles_flow).max()),
    }
