"""Faults planted into the kernels, one at a time, and the checks that must catch each.

A test of the tests: `python -m tests.tvl1.emulation.faults NAME` plants one fault and says what
caught it, in a process of its own, since some faults read or write where nothing is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP, QUANTILE_SCALE
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.blocks import block_count, skips_blocks, still_units
from flowkit.tvl1.cuda.cluster import ClusterShape
from flowkit.tvl1.cuda.device import NULL
from flowkit.tvl1.cuda.plan import Model, TileShape
from flowkit.tvl1.cuda.quantize import enqueue_codes
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.solver import State, solve_level, tvl1_flow
from flowkit.tvl1.reference.steps import edge_weight
from tests.tvl1.conftest import wave_image
from tests.tvl1.emulation.emulator import IN_TURN, LAST_FIRST, RANDOM, Module, read_sources
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

SCHEDULES = ((IN_TURN, 0), (LAST_FIRST, 0), (RANDOM, 1), (RANDOM, 2), (RANDOM, 3), (RANDOM, 4))

Sources = Mapping[str, str]
Schedule = tuple[int, int]

# px: rounding alone gives 4e-5.
AGREEMENT_PX = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One edit of one kernel file; `check` names who is to catch it."""

    name: str
    file: str
    old: str
    new: str
    check: str

    def plant(self) -> dict[str, str]:
        """Return all sources with the fault in them."""
        texts = read_sources()
        assert texts[self.file].count(self.old) == 1, (self.name, texts[self.file].count(self.old))
        return {**texts, self.file: texts[self.file].replace(self.old, self.new)}


def fault(check: str, file: str, name: str, old: str, new: str) -> Fault:
    """Return a fault, its words in the order of the lists."""
    return Fault(name=name, file=file, old=old, new=new, check=check)


@contextlib.contextmanager
def planted(sources: Sources, schedule: Schedule, capability: int = 75) -> Iterator[FakeGpu]:
    """Let the engine run on an emulated GPU with these sources."""
    with pytest.MonkeyPatch.context() as patch:
        yield install(patch, FakeGpu(sources=sources, schedule=schedule, capability=capability))


def check_solver(
    params: TVL1Params,
    sources: Sources,
    schedule: Schedule,
    *,
    pairs: Sequence[Sequence[int]] = ((2, 1), (0, 1)),
    capability: int = 75,
    still_columns: int = 0,
) -> None:
    """Hold pairs, two of different flows, to the twin through the whole driver."""
    shape = (40, 44)
    frames = np.stack([wave_image(shape, flow) for flow in ((0, 0), (0.9, -0.6), (0.9, -0.6))])
    frames[:, :, :still_columns] = frames[0, :, :still_columns]
    # Ranges of their own, should they be stretched; the first pair stops early.
    frames[1, 0, 0], frames[2, 0, 0], frames[2, 0, 1] = 15, 0, 255
    tile = TileShape(columns=2, rows=2, warps=6, halo=5)
    with planted(sources, schedule, capability):
        flow, iterations = cuda.load(params, tile=tile).flow_and_iterations(frames, np.array(pairs))
    for k, (first, second) in enumerate(pairs):
        twin = tvl1_flow(frames[first], frames[second], params=params)
        assert [tuple(level) for level in iterations[k]] == [level.iterations for level in twin.trace.levels]
        assert np.abs(flow[k] - twin.flow).max() < AGREEMENT_PX


def check_tile(sources: Sources, schedule: Schedule) -> None:
    """Hold tiles, levels and stopping to the twin."""
    # One launch from test to test, three warps: a pair may end in either buffer.
    params = TVL1Params(nscales=2, warps=3, iterations=60, epsilon=0.02, check_every=5)
    check_solver(params, sources, schedule)


def check_still(sources: Sources, schedule: Schedule) -> None:
    """Hold pairs that end their levels at different warps, a still one among them, to the twin."""
    params = TVL1Params(nscales=2, warps=3, iterations=15, epsilon=0.05, check_every=5)
    check_solver(params, sources, schedule, pairs=((1, 0), (1, 1), (0, 1)))


def check_change(sources: Sources, schedule: Schedule) -> None:
    """Hold what one iteration changes, summed over tiles of three rows of blocks, to the flow."""
    shape, n, i32 = TileShape(columns=1, rows=2, warps=6, halo=2), 30 * 70, np.int32
    rng, tiles = np.random.default_rng(0), (4, 3)
    terms, q = rng.normal(size=(1, n, 4)), rng.normal(size=(2, 1, n, 4))
    u = rng.normal(size=(2, 1, n, 2)).astype(np.float32)
    before = u[0].astype(np.float64)
    states, changes = np.array([[1, 0, 0, 0, 0]], i32), np.full((1, 12), np.nan, np.float32)
    module = Module("tile.cu", shape.defines, sources)
    module.set_schedule(*schedule)
    arrays = (np.abs(terms).astype(np.float32), u, q.astype(np.float32), states, changes)
    ints = (1, 70, 30, tiles[1], tiles[0], shape.halo, 1, 1, 1)
    counters = np.zeros(1, i32), np.ones(2, i32)
    floats, ends = map(np.float32, (0, 0.25, 0.25 / 0.3, 0.3)), (NULL, NULL, NULL, np.float32(0))
    module.launch("flowkit_tile", (12,), (192,), (*arrays, *counters, *map(i32, ints), *floats, *ends))
    assert counters[0][0] == 1
    np.testing.assert_allclose(changes.sum(), ((u[1] - before) ** 2).sum(), rtol=1e-5)


def check_median(sources: Sources, schedule: Schedule) -> None:
    """Hold the median, the border "off" and the joint stretch to the twin."""
    params = TVL1Params(
        nscales=1, warps=2, iterations=40, epsilon=0.03, check_every=5, median=5, median_every=15
    )
    check_solver(dataclasses.replace(params, border="off", normalize=True), sources, schedule)


def check_cluster(sources: Sources, schedule: Schedule) -> None:
    """Hold a cluster of five small blocks to the twin."""
    hold_cluster(TVL1Params(warps=2, iterations=60, check_every=1, epsilon=0.03), sources, schedule)


def check_still_cluster(sources: Sources, schedule: Schedule) -> None:
    """Hold a cluster to the twin on a level that ends with its first warp, and on one that does not."""
    params = TVL1Params(warps=4, iterations=30, check_every=5, epsilon=0.05)
    for shift in ((0.02, 0.01), (0.9, -0.6)):
        hold_cluster(params, sources, schedule, shift=shift)


def hold_cluster(
    params: TVL1Params,
    sources: Sources,
    schedule: Schedule,
    *,
    shift: tuple[float, float] = (0.9, -0.6),
    still_columns: int = 0,
) -> None:
    """Hold one level by a cluster of five small blocks to the twin."""
    size = (28, 61)
    shape = ClusterShape(columns=2, rows=2, warps=3, blocks=5, model=Model.of(params)).fitted(size)
    module = Module("cluster.cu", shape.defines, sources)
    module.set_schedule(*schedule)
    frames = np.stack([wave_image(size), wave_image(size, shift)])
    frames[1, :, :still_columns] = frames[0, :, :still_columns]
    flow, counts = np.full((1, 2, *size), np.nan, np.float32), np.zeros((1, params.warps), np.int32)
    rng, dual = np.random.default_rng(0), np.full((1, 4, *size), np.nan, np.float32)
    start, dual_start = np.zeros_like(flow), 0.2 * params.theta * rng.normal(size=dual.shape)
    dual_start[:, ::2, :, -1] = dual_start[:, 1::2, -1] = 0
    carried = Model.of(params).carried
    planes, height, width = np.array([[0, 1]], np.int32), *size
    weight = edge_weight(frames[0].astype(np.float64), params.edge_alpha, params.edge_beta)
    bounds = (params.theta * weight).astype(np.float32)[None]
    changes = np.zeros((params.warps, 1, block_count(size)), np.int32)
    tests = (params.check_every, params.check_first) if params.epsilon else (0, 0)
    ints = (params.warps, width, height, 0, params.warps, params.iterations, *tests)
    floats = (params.epsilon**2 * height * width, params.bicubic_a, params.lambda_ * params.theta)
    args = (
        *(frames, planes, start, dual_start.astype(np.float32) if carried else NULL),
        *(flow, dual if carried else NULL, counts, *map(np.int32, ints), *map(np.float32, floats)),
        np.int32(1),
        *map(np.float32, (params.tau, params.tau / params.theta, params.theta)),
        *(bounds, changes if skips_blocks(params) else NULL, np.float32(still_units(params))),
    )
    shared = shape.shared_bytes
    module.launch("flowkit_cluster", (shape.blocks,), (32 * shape.warps,), args, shared_mem=shared)
    I0, I1 = frames.astype(np.float64)
    p = dual_start.reshape(2, 2, *size) / params.theta * carried
    twin, trace = solve_level(I0, I1, State(u=np.zeros((2, *size)), p=p), params)
    assert tuple(counts[0]) == trace.iterations
    assert np.abs(flow[0] - twin.u).max() < AGREEMENT_PX
    if carried:
        # Compared so that NaN is a difference.
        assert np.abs(dual[0].reshape(2, 2, *size) / params.theta - twin.p).max() < AGREEMENT_PX


def check_codes(sources: Sources, schedule: Schedule) -> None:
    """Hold codes to flowkit.quantize."""
    flow = np.random.default_rng(0).normal(size=(3, 2, 9, 40)).astype(np.float32) * 9
    flow[0, 0, 0, 0], flow[1, 0, 0, 0] = -15.875 * 4, 600
    flow[2, 1, 0], flow[2, 1, 1] = np.arange(40) / 16, np.arange(40) / 128
    few = np.zeros((3, 2, 9, 71), np.float32)  # 1,278 components: one may saturate
    few[0].flat[:4] = 400, -70.3, 70.2, 30
    few[1].flat[:3] = 3000, -16.125, 16.0625
    few[2].flat[:3] = 126, -125.9, 127
    with planted(sources, schedule):
        device = cuda_device.open_device(0)
        for flows, rules in ((flow, (FIELD_SCALE, FIXED_STEP)), (few, (QUANTILE_SCALE,))):
            on_device = device.upload(flows)
            for rule in rules:
                made = [array.get() for array in enqueue_codes(device, on_device, rule)]
                for k, field in enumerate(flows):
                    expected = rule.quantize(field)
                    np.testing.assert_array_equal(made[0][k], expected.codes)
                    assert (made[1][k], made[3][k]) == (expected.scale, expected.clipped)


def check_edges(sources: Sources, schedule: Schedule) -> None:
    """Hold the projected step with edge weights to the twin."""
    params = TVL1Params(nscales=2, warps=1, iterations=15, epsilon=0, dual="projected", edge_alpha=3.0)
    check_solver(params, sources, schedule)


def check_edges_cluster(sources: Sources, schedule: Schedule) -> None:
    """Hold a cluster with edge weights to the twin."""
    params = TVL1Params(warps=1, iterations=15, epsilon=0, dual="projected", edge_alpha=3.0)
    hold_cluster(params, sources, schedule)


# IPOL's way up, by which a last column of zeros does not stay one.
CARRIED = TVL1Params(
    nscales=2,
    scale_step=0.7,
    pyramid="gaussian",
    warps=1,
    iterations=5,
    epsilon=0,
    dual="projected",
    dual_start="coarser",
    edge_alpha=3.0,
)


def check_carried(sources: Sources, schedule: Schedule) -> None:
    """Hold levels that hand the dual variable on to the twin."""
    check_solver(CARRIED, sources, schedule)


def check_carried_cluster(sources: Sources, schedule: Schedule) -> None:
    """Hold a cluster to the twin that begins with a dual variable and leaves one."""
    hold_cluster(CARRIED, sources, schedule)


def check_warps_of_clusters(sources: Sources, schedule: Schedule) -> None:
    """Hold clusters with a filter after each warp, one launch each, to the twin."""
    params = TVL1Params(nscales=2, warps=3, iterations=10, epsilon=0.05, check_every=5, weighted_median=5)
    check_solver(params, sources, schedule, pairs=((1, 0), (1, 1), (0, 1)), capability=90)


def check_gradient(sources: Sources, schedule: Schedule) -> None:
    """Hold differences of five taps, at positions outside the frame too, to the twin."""
    check_solver(TVL1Params(nscales=2, warps=1, iterations=5, gradient_taps=5), sources, schedule)


BLOCKS = TVL1Params(
    nscales=1, warps=3, iterations=12, check_every=5, epsilon=0.001, dual="projected", block_epsilon=0.03
)


def check_blocks(sources: Sources, schedule: Schedule) -> None:
    """Hold levels some of whose blocks are still to the twin."""
    check_solver(BLOCKS, sources, schedule, pairs=((2, 0), (0, 1)), still_columns=22)


def check_blocks_cluster(sources: Sources, schedule: Schedule) -> None:
    """Hold a cluster some of whose blocks are still to the twin."""
    hold_cluster(BLOCKS, sources, schedule, still_columns=40)


def check_weighted_median(sources: Sources, schedule: Schedule) -> None:
    """Hold the weighted median after each warp, the last of a still pair among them, to the twin."""
    params = TVL1Params(nscales=2, warps=2, iterations=10, epsilon=0.05, check_every=5, weighted_median=5)
    check_solver(params, sources, schedule, pairs=((1, 0), (1, 1), (0, 1)))


def check_weighted_level(sources: Sources, schedule: Schedule) -> None:
    """Hold the weighted median after a level, where the flow varies, to the twin."""
    params = TVL1Params(nscales=2, warps=1, iterations=20, weighted_median=7, weighted_median_after="level")
    check_solver(dataclasses.replace(params, weighted_median_spread=0.2), sources, schedule)


CHECKS: dict[str, Callable[[Sources, Schedule], None]] = {
    "tile": check_tile,
    "change": check_change,
    "median": check_median,
    "cluster": check_cluster,
    "still": check_still,
    "edges": check_edges,
    "gradient": check_gradient,
    "weighted median": check_weighted_median,
    "weighted level": check_weighted_level,
    "edges cluster": check_edges_cluster,
    "carried": check_carried,
    "carried cluster": check_carried_cluster,
    "warps of clusters": check_warps_of_clusters,
    "still cluster": check_still_cluster,
    "blocks": check_blocks,
    "blocks cluster": check_blocks_cluster,
    "codes": check_codes,
}


def what_catches(fault: Fault | None, check: str, schedule: Schedule) -> str:
    """Return what the check says of a fault (None: of the kernels as shipped), or ""."""
    sources = read_sources() if fault is None else fault.plant()
    try:
        CHECKS[check](sources, schedule)
    except AssertionError as error:
        lines = str(error).strip().splitlines() or ["the result differs"]
        return f"difference: {lines[0]}"
    except RuntimeError as error:
        return f"error: {error}"
    return ""


def main(name: str) -> None:
    """Plant one fault and print, as JSON, what each schedule says."""
    fault = next(f for f in fault_list() if f.name == name)
    answers = [what_catches(fault, fault.check, schedule) for schedule in SCHEDULES]
    print(json.dumps(answers))


def fault_list() -> tuple[Fault, ...]:
    """Return every fault (kept apart: they are many)."""
    from tests.tvl1.emulation.fault_list import FAULTS

    return FAULTS


if __name__ == "__main__":
    main(sys.argv[1])
