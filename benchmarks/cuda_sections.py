"""Sections that compare with other engines, and those of the way from the host and back."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.cuda_limits import seconds_of
from benchmarks.cuda_timing import counts, levels_by_clusters, rates, tried
from benchmarks.cuda_workload import Workload, images_and_pairs, size_name, waves
from benchmarks.record import JsonObject, python_path
from flowkit.errors import BackendUnavailableError
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.check import AGREEMENT_PX
from flowkit.tvl1.cuda.device import open_device
from flowkit.tvl1.cuda.plan import Size
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference.solver import tvl1_flow

# Of single precision with the float64 twin on smooth images; some ten times what the CPU engine shows.
MEAN_AGREEMENT_PX = 5e-5

_BATCHES_OF_STAGES = 4
_PAIRS_OF_AGREEMENT = 4

_FIRST_PAIR = """
import time
start = time.perf_counter()
import numpy as np
from flowkit.tvl1.cuda import solver
from flowkit.tvl1.params import TVL1Params
frames = np.zeros((2, {size[0]}, {size[1]}), np.uint8)
solver.load(TVL1Params(iterations={iterations})).flow_batch(frames, [[0, 1]])
print(time.perf_counter() - start)
"""


def start(workload: Workload) -> Iterator[JsonObject]:
    """Time the first pair with an empty kernel cache, and in a new process with a full one."""
    code = _FIRST_PAIR.format(size=workload.size, iterations=workload.iterations)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty cache", "full cache"):
            yield tried({"start": name}, functools.partial(_seconds_of_first_pair, code, folder))


def _seconds_of_first_pair(code: str, cache: str) -> JsonObject:
    environment = {**os.environ, "FLOWKIT_CACHE_DIR": cache, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return {"seconds": float(done.stdout)}


def pair_by_tiles(workload: Workload) -> Iterator[JsonObject]:
    """Compare one pair of each size, solved by tiles, with the float64 twin."""
    yield from _pairs(workload, "tile")


def pair_by_clusters(workload: Workload) -> Iterator[JsonObject]:
    """Compare one pair of each size, solved by clusters, with the float64 twin."""
    yield from _pairs(workload, "cluster")


def _pairs(workload: Workload, method: Method) -> Iterator[JsonObject]:
    for size in workload.sizes:
        label = {"method": method, "size": size_name(size)}
        yield tried(label, functools.partial(_against_twin, workload, method, size))


def _against_twin(workload: Workload, method: Method, size: Size) -> JsonObject:
    params, frames = workload.params(), np.stack([waves(size), waves(size, (1.3, -0.8))])
    solver = cuda.load(params, method=method, tile=workload.tile)
    flow, iterations = solver.flow_and_iterations(frames, [[0, 1]])
    twin = tvl1_flow(*frames, params=params)
    difference = np.abs(flow[0] - twin.flow)
    expected = np.array([level.iterations for level in twin.trace.levels])
    result: JsonObject = {
        "pairs": 1,
        **counts(iterations, size, params),
        "levels_by_clusters": levels_by_clusters(method, size, params),
        "max_px": float(difference.max()),
        "mean_px": float(difference.mean()),
        "iterations_equal": bool((iterations[0] == expected).all()),
    }
    near = result["max_px"] < AGREEMENT_PX and result["mean_px"] < MEAN_AGREEMENT_PX
    # NaN is not near either.
    if not (near and result["iterations_equal"]):
        result["failed"] = f"not the twin's flow to {AGREEMENT_PX} px, or not its iterations"
    return result


def stages(workload: Workload) -> Iterator[JsonObject]:
    """Time host to host, with floats and with codes, and the copies alone."""
    host, rows = images_and_pairs(
        workload.size, _BATCHES_OF_STAGES * workload.pairs_at(workload.size), workload.video
    )
    params = workload.params()
    solver = cuda.load(params, tile=workload.tile)
    label = {"size": size_name(workload.size), "stop": "eps .01"}
    counted = counts(solver.flow_and_iterations(host, rows[: len(host) - 1])[1], workload.size, params)
    ways: dict[str, Callable[[], object]] = {
        "host to host, floats": lambda: solver.flow_batch(host, rows),
        "host to host, i8": lambda: solver.codes_batch(host, rows, quantizer=FIELD_SCALE),
    }
    for name, work in ways.items():
        timed = functools.partial(lambda work: rates(seconds_of(work), len(rows), counted), work)
        yield tried({"way": name, **label}, timed)
    yield tried(
        {"events": "host to host, i8, seconds of each stage", **label, "pairs": len(rows), **counted},
        lambda: {"seconds": solver.codes_batch(host, rows, quantizer=FIELD_SCALE).seconds},
    )
    yield from copies(workload)


def copies(workload: Workload) -> Iterator[JsonObject]:
    """Time copies between pinned memory and the device."""
    device = open_device(0)
    with device.using():
        array = device.empty((workload.copy_bytes // 4,), np.uint8)
        pinned = device.pinned(array.shape, np.uint8)
        ways: dict[str, Callable[[], object]] = {
            "pinned to device": lambda: device.upload(pinned),
            "device to pinned": lambda: device.download_into(pinned, array),
        }
        for name, work in ways.items():
            bytes_copied = array.nbytes / statistics.median(seconds_of(work))
            yield {"copy": name, "gigabytes_per_second": bytes_copied / 1e9}


def agreement(workload: Workload) -> Iterator[JsonObject]:
    """Compare with the CPU engine, where it is built: i8 codes and iterations of every preset."""
    try:
        cpu.load(workload.params())
    except BackendUnavailableError as error:
        yield {"absent": str(error)}
        return
    for preset in PRESETS:
        label = {"preset": preset, "size": size_name(workload.size)}
        yield tried(label, functools.partial(_against_cpu, workload, preset))


def _against_cpu(workload: Workload, preset: str) -> JsonObject:
    params = workload.params(preset)
    host, rows = images_and_pairs(workload.size, min(workload.pairs, _PAIRS_OF_AGREEMENT), workload.video)
    threads = len(os.sched_getaffinity(0))
    expected, expected_counts = cpu.load(params).flow_and_iterations(host, rows, threads=threads)
    flow, iterations = cuda.load(params).flow_and_iterations(host, rows)
    codes = [np.stack([FIELD_SCALE.quantize(each).codes for each in flows]) for flows in (flow, expected)]
    changed = np.abs(codes[0].astype(int) - codes[1])
    return {
        "pairs": len(rows),
        **counts(iterations, workload.size, params),
        "max_px": float(np.abs(flow - expected).max()),
        "codes_equal": float((changed == 0).mean()),
        "codes_off_by_more_than_one": float((changed > 1).mean()),
        "iterations_equal": bool((iterations == expected_counts).all()),
    }
