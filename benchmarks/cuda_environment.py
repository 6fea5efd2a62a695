"""The machine as the engine sees it: versions, and what each kernel takes of the GPU."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from benchmarks.cuda_timing import tried
from benchmarks.cuda_workload import Workload, cluster_name, parse_cluster, size_name
from benchmarks.record import JsonObject
from flowkit.errors import BackendUnavailableError
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda.check import cluster_resources, resources
from flowkit.tvl1.cuda.cluster import ClusterShape, cluster_shape
from flowkit.tvl1.cuda.device import THREADS, CudaDevice, KernelFile, count_gpus, open_device
from flowkit.tvl1.cuda.nvrtc import load_nvrtc
from flowkit.tvl1.cuda.plan import PUBLISHED, WHOLE, Size, TileShape
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference.pyramid import level_sizes

# Of each level of 320x240 px the fastest on an H200 beside the one that `cluster_shape` chooses.
CANDIDATES = (
    "320x240=10x1x16x15",
    "256x192=8x3x8x8",
    "205x154=7x2x10x8",
    "164x123=6x2x16x4",
    "131x98=5x3x11x3",
)

_PACKAGES = re.compile(r"(cupy|nvidia|opencv|torch|triton|numpy|h5py|joblib|av$|deflate|simplejpeg)")
_SMI = "name,driver_version,memory.total,clocks.max.sm,clocks.sm,power.limit,temperature.gpu,mig.mode.current"


def gpu(workload: Workload) -> Iterator[JsonObject]:
    """Return the GPU and the versions around it, or `no_gpu` with the reason."""
    del workload
    try:
        count = count_gpus()
    except BackendUnavailableError as error:
        yield {"no_gpu": str(error)}
        return
    if not count:
        yield {"no_gpu": "cuda: CUDA shows no GPU to this process; see CUDA_VISIBLE_DEVICES"}
        return
    yield {"gpus": count, "python": platform.python_version(), "packages": _packages(), "smi": _smi()}
    yield tried({}, _device)


def _device() -> JsonObject:
    device = open_device(0)
    runtime = device.cupy.cuda.runtime
    return {
        "gpu": device.name,
        "capability": device.capability,
        "processors": device.processors,
        "shared_bytes_of_a_block": device.shared_bytes,
        "free_bytes": device.free_bytes(),
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": device.cupy.__version__,
        "nvrtc": load_nvrtc(device.cuda_major).version,
    }


def _packages() -> dict[str, str]:
    found = {(each.name or "").lower(): each.version for each in importlib.metadata.distributions()}
    return {name: version for name, version in sorted(found.items()) if _PACKAGES.match(name)}


def _smi() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "no nvidia-smi"
    query = [command, f"--query-gpu={_SMI}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stdout + done.stderr).strip()


def environment(workload: Workload) -> Iterator[JsonObject]:
    """Return what `gpu` does, then registers, spills, shared memory and occupancy of every kernel."""
    for result in gpu(workload):
        yield result
        if "no_gpu" in result:
            return
    device = open_device(0)
    kernels, clusters = list(_kernels()), list(_clusters(workload))
    if not device.has_clusters:
        clusters = []
    files = dict.fromkeys([file for file, _, _ in kernels] + [shape.kernel[0] for _, shape in clusters])
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        # All at once, so that the compiler's seconds count in no later step; errors come again on use.
        compiled = {file: pool.submit(_compile, device, file) for file in files}
        for file, name, threads in kernels:
            wait([compiled[file]])
            label = {"kernel": name, "threads": threads, "macros": _model_macros(file)}
            yield tried(label, functools.partial(_usage, device, (file, name), threads))
        for size, shape in clusters:
            wait([compiled[shape.kernel[0]]])
            label = {"cluster": cluster_name(shape), "size": size_name(size), "threads": shape.threads}
            yield tried(label, functools.partial(_cluster_usage, device, shape))


def _compile(device: CudaDevice, file: KernelFile) -> None:
    """Put a file's machine code into the cache."""
    defines, major = dict(file.defines), device.cuda_major
    cuda_kernels.cubin(file.source, defines, device.capability, cuda_major=major)


def _kernels() -> Iterator[tuple[KernelFile, str, int]]:
    """Yield file, name and threads of a block of every kernel but the cluster's, for every model."""
    tile = TileShape()
    variants: dict[str, list[dict[str, float]]] = {
        "tile.cu": [{**tile.defines, **model.dual_defines} for model in (PUBLISHED, WHOLE)],
        "level.cu": [model.warp_defines for model in (PUBLISHED, WHOLE)],
        "weighted_median.cu": [{"FLOWKIT_MEDIAN_SIDE": side} for side in (5, 7)],
    }
    threads = {"tile.cu": 32 * tile.warps}
    for source, text in cuda_kernels.sources().items():
        if source.endswith(".cu") and source != "cluster.cu":
            for defines, declared in itertools.product(
                variants.get(source, [{}]), re.findall(r'extern "C"[^{]*', text)
            ):
                for name in re.findall(r"\b(flowkit_\w+)\(", declared):
                    yield KernelFile.of(source, defines), name, threads.get(source, THREADS)


def _model_macros(file: KernelFile) -> JsonObject:
    """Return the macros of a kernel's file but those of the tile's shape."""
    return {name: value for name, value in file.defines if name not in TileShape().defines}


def _clusters(workload: Workload) -> Iterator[tuple[Size, ClusterShape]]:
    """Yield each level's size and cluster, as it is chosen, then the candidates."""
    seen = set()
    for size in workload.sizes:
        for level in level_sizes(size, PRESETS["opencv-cuda"]):
            shape = cluster_shape(level)
            if shape is not None and (level, shape) not in seen:
                seen.add((level, shape))
                yield level, shape.fitted(level)
    yield from workload.clusters.items() or candidates()


def candidates() -> Iterator[tuple[Size, ClusterShape]]:
    """Yield size and shape of CANDIDATES."""
    for text in CANDIDATES:
        size, shape = parse_cluster(text)
        assert size is not None
        yield size, shape.fitted(size)


def _usage(device: CudaDevice, kernel: tuple[KernelFile, str], threads: int) -> JsonObject:
    return dataclasses.asdict(resources(device, kernel, threads=threads))


def _cluster_usage(device: CudaDevice, shape: ClusterShape) -> JsonObject:
    found = cluster_resources(device, shape)
    return {**dataclasses.asdict(found), "blocks_of_the_gpu": found.resident * shape.blocks}
