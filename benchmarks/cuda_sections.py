"""The sections of bench_cuda: each yields results, one after the other, as JSON can hold them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cuda_limits import bytes_per_second, gpu_busy, instructions_per_second, seconds_of
from benchmarks.record import ROOT, JsonObject
from flowkit.errors import BackendUnavailableError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.pipeline import limiting_stage
from flowkit.extraction.run import prepare, run, server_configs
from flowkit.extraction.sources import find_sources
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.device import open_device
from flowkit.tvl1.cuda.plan import TileShape
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes
from flowkit.tvl1.server.server import LANES

SIZES = {"320x240": (240, 320), "340x256": (256, 340), "1280x720": (720, 1280)}
FORCED = dataclasses.replace(PRESETS["opencv-cuda"], epsilon=0.0)

# Of a pixel-iteration, counted (docs/cuda.md): instructions in the solvers' loops for sm_90, and bytes
# that tiles move.
INSTRUCTIONS_PER_PIXEL_ITERATION = {"tile": 46, "cluster": 55}
BYTES_PER_PIXEL_ITERATION = {"tile": 17}

TILES = {
    "64x64 halo 5": TileShape(),
    "64x64 halo 10": TileShape(halo=10),
    "64x32 halo 5": TileShape(warps=8),
    "32x64 halo 5": TileShape(columns=1),
    "64x32 rows 2 halo 5": TileShape(rows=2),
}


def moving_images(size: tuple[int, int], count: int) -> NDArray[np.uint8]:
    """Return frames of a fractal texture that drifts, with a disc that goes the other way."""
    rng, (height, width) = np.random.default_rng(0), size
    fy, fx = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)[None]
    spectrum = np.fft.rfft2(rng.normal(size=(2, 2 * height, 2 * width))) / (0.01 + np.hypot(fx, fy)) ** 1.3
    y, x = np.indices(size)
    frames = np.empty((count, *size), np.uint8)
    for k in range(count):
        shift = np.exp(2j * np.pi * np.stack([1.3 * k * fx - 0.7 * k * fy, -2.1 * k * fx + 0.9 * k * fy]))
        layers = np.fft.irfft2(spectrum * shift, (2 * height, 2 * width))[:, :height, :width]
        disc = np.hypot(y - height / 2, x - width / 2 - 2.1 * k % (width / 4)) < height / 4
        image = np.where(disc, layers[1], layers[0])
        frames[k] = np.clip(128 + 45 * image / image.std(), 0, 255)
    return frames


def consecutive(pairs: int, frames: int) -> NDArray[np.int32]:
    first = np.arange(pairs) % (frames - 1)
    return np.stack([first, first + 1], axis=1).astype(np.int32)


GATE = [
    *(sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/tvl1/cuda/test_gpu.py"),
    # A bare machine lacks what other tests need, and its libraries have warnings of their own.
    *("--noconftest", "-p", "tests.tvl1.conftest", "-p", "no:cacheprovider", "-W", "default"),
]
GATE_ENVIRONMENT = {"FLOWKIT_REQUIRE_CUDA": "1", "PYTHONPATH": str(ROOT)}


def gate(quick: bool) -> Iterator[JsonObject]:
    """Run the tests that are marked gpu; a skip for want of a GPU is a failure."""
    done = subprocess.run(
        [*GATE, *(["-k", "opencv or codes or kind"] if quick else [])],
        cwd=ROOT,
        env={**os.environ, **GATE_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    yield {"passed": done.returncode == 0, "output": done.stdout[-4000:] + done.stderr[-1000:]}


def start(quick: bool) -> Iterator[JsonObject]:
    """Time the first pair with an empty kernel cache, and in a new process with a full one."""
    code = (
        "import time; start = time.perf_counter(); import numpy as np; from flowkit.tvl1 import cuda\n"
        "from flowkit.tvl1.params import TVL1Params\n"
        "cuda.load(TVL1Params()).flow_batch(np.zeros((2, 240, 320), np.uint8), [[0, 1]])\n"
        "print(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty cache", "full cache"):
            environment = {**os.environ, "FLOWKIT_CACHE_DIR": folder, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            yield {"start": name, "seconds": float(done.stdout)}


def time_solver(
    label: JsonObject,
    params: TVL1Params,
    size: tuple[int, int],
    pairs: int,
    *,
    method: Method = "tile",
    tile: TileShape | None = None,
) -> JsonObject:
    """Time flow from frames on the device to flow on the device."""
    device, solver = open_device(0), cuda.load(params, method=method, tile=tile)
    host = moving_images(size, min(pairs + 1, 33))
    rows = consecutive(pairs, len(host))
    with device.using():
        frames = device.cupy.asarray(host)
    iterations = solver.flow_and_iterations(host, rows[: len(host) - 1])[1]
    pixels = np.array([h * w for h, w in level_sizes(size, params)[::-1]])
    pixel_iterations = float((iterations.sum(axis=2) * pixels).sum(axis=1).mean())
    seconds = seconds_of(lambda: solver.flow_batch(frames, rows))
    pairs_per_second = pairs / statistics.median(seconds)
    done = pairs_per_second * pixel_iterations
    fractions = {
        "share_of_issue_limit": done * INSTRUCTIONS_PER_PIXEL_ITERATION[method] / instructions_per_second()
    }
    if method in BYTES_PER_PIXEL_ITERATION:
        fractions["share_of_bandwidth"] = done * BYTES_PER_PIXEL_ITERATION[method] / bytes_per_second()
    return {
        **label,
        "pairs": pairs,
        "seconds": seconds,
        "pairs_per_second": pairs_per_second,
        "iterations_per_pair": float(iterations.sum(axis=(1, 2)).mean()),
        "pixel_iterations_per_second": done,
        **fractions,
    }


def limits(quick: bool) -> Iterator[JsonObject]:
    """Measure the limits of the GPU; `share_of_...` below are fractions of these."""
    yield {"instructions_per_second": instructions_per_second(), "bytes_per_second": bytes_per_second()}


def kernels(quick: bool) -> Iterator[JsonObject]:
    """Time the default preset at each size, to convergence and with 300 iterations forced."""
    for name, size in list(SIZES.items())[: 1 if quick else None]:
        pairs = 256 if size[0] < 500 else 64
        for stop, params in (("eps .01", PRESETS["opencv-cuda"]), ("forced 300", FORCED)):
            count = pairs if params.epsilon else pairs // 4
            yield time_solver({"size": name, "stop": stop, "method": "tile"}, params, size, count)


def clusters(quick: bool) -> Iterator[JsonObject]:
    """Time tiles against clusters, A B A B."""
    for stop, params in (("eps .01", PRESETS["opencv-cuda"]), ("forced 300", FORCED)):
        methods: tuple[Method, ...] = ("tile", "cluster") * (1 if quick else 2)
        for method in methods:
            label = {"size": "320x240", "stop": stop, "method": method}
            yield time_solver(label, params, SIZES["320x240"], 128, method=method)


def presets(quick: bool) -> Iterator[JsonObject]:
    """Time every preset at 320x240."""
    for name, params in list(PRESETS.items())[: 2 if quick else None]:
        yield time_solver({"preset": name}, params, SIZES["320x240"], 256)


def batches(quick: bool) -> Iterator[JsonObject]:
    """Time batches of one pair to hundreds."""
    for pairs in (1, 256) if quick else (1, 4, 16, 64, 128, 256):
        yield time_solver({"batch": pairs}, PRESETS["opencv-cuda"], SIZES["320x240"], pairs)


def tiles(quick: bool) -> Iterator[JsonObject]:
    """Time shapes of tiles, with the same number of iterations for each."""
    for name, tile in list(TILES.items())[: 1 if quick else None]:
        params = dataclasses.replace(FORCED, iterations=100)
        yield time_solver({"tile": name}, params, SIZES["320x240"], 128, tile=tile)


def stages(quick: bool) -> Iterator[JsonObject]:
    """Time host to host, with floats and with codes, and the copies alone."""
    device, pairs = open_device(0), 256 if quick else 1024
    host = moving_images(SIZES["320x240"], 33)
    rows = consecutive(pairs, len(host))
    solver = cuda.load(PRESETS["opencv-cuda"])
    ways: dict[str, Callable[[], object]] = {
        "host to host, floats": lambda: solver.flow_batch(host, rows),
        "host to host, i8": lambda: solver.codes_batch(host, rows, quantizer=FIELD_SCALE),
    }
    for name, work in ways.items():
        seconds = seconds_of(work)
        yield {"way": name, "seconds": seconds, "pairs_per_second": pairs / statistics.median(seconds)}
    made = solver.codes_batch(host, rows, quantizer=FIELD_SCALE)
    yield {"events": "host to host, i8, seconds of each stage", "seconds": made.seconds, "pairs": pairs}
    with device.using():
        array = device.empty((1 << 28,), np.uint8)
        pinned = device.pinned(array.shape, np.uint8)
        copies: dict[str, Callable[[], object]] = {
            "pinned to device": lambda: device.upload(pinned),
            "device to pinned": lambda: device.download_into(pinned, array),
        }
        for name, work in copies.items():
            bytes_copied = array.nbytes / statistics.median(seconds_of(work))
            yield {"copy": name, "gigabytes_per_second": bytes_copied / 1e9}


def agreement(quick: bool) -> Iterator[JsonObject]:
    """Compare with the CPU engine, where it is built: i8 codes and iterations."""
    host = moving_images(SIZES["320x240"], 5)
    rows = consecutive(4, 5)
    for name, params in list(PRESETS.items())[: 1 if quick else None]:
        try:
            expected, counts = cpu.load(params).flow_and_iterations(host, rows, threads=16)
        except BackendUnavailableError as error:
            yield {"skipped": str(error)}
            return
        flow, iterations = cuda.load(params).flow_and_iterations(host, rows)
        step = 0.125 * np.exp2(np.ceil(np.log2(np.maximum(np.abs(expected).max((1, 2, 3)) / 15.875, 1))))
        codes = [np.rint(f / step[:, None, None, None]) for f in (flow, expected)]
        changed = np.abs(codes[0] - codes[1])
        yield {
            "preset": name,
            "max_px": float(np.abs(flow - expected).max()),
            "codes_equal": float((changed == 0).mean()),
            "codes_off_by_more_than_one": float((changed > 1).mean()),
            "iterations_equal": bool((iterations == counts).all()),
        }


def write_clips(folder: Path, *, clips: int, frames: int, copies: int) -> None:
    """Write XviD clips of 320x240 from other parts of one drift, each `copies` times."""
    (folder / "0").mkdir(parents=True)
    images = moving_images(SIZES["320x240"], frames)
    for k in range(clips):
        writer = cv2.VideoWriter(
            str(folder / "0" / f"{k}.avi"), cv2.VideoWriter.fourcc(*"XVID"), 25, (320, 240)
        )
        for image in np.roll(images, k * frames // clips, axis=0):
            writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        writer.release()
    for k in range(1, copies):
        shutil.copytree(folder / "0", folder / str(k))


def extraction(quick: bool, backend: BackendName = "cuda") -> Iterator[JsonObject]:
    """Extract clips from files, frames and i8 flow, with all cores: end to end."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = (
            {"clips": 2, "frames": 16, "copies": 1} if quick else {"clips": 16, "frames": 192, "copies": 10}
        )
        write_clips(folder / "videos", **size)
        sources = find_sources([folder / "videos"])
        config = ExtractConfig(backend=backend)
        for turn in ("first, kernels compiled or cached", "second"):
            busy: list[float] = []
            setup = prepare(sources, folder / f"{turn[:5]}.h5", config=config)
            began = time.perf_counter()
            with gpu_busy(busy):
                report = run(setup)
            seconds = time.perf_counter() - began
            frames = sum(outcome.n_frames for outcome in report.outcomes)
            lanes = LANES * len(server_configs(setup))
            yield {
                "turn": turn,
                "videos": report.stored,
                "frames": frames,
                "frames_per_second": frames / seconds,
                "jobs": config.jobs,
                "decoder": setup.decoder,
                "seconds_of_work": report.stages,
                "limits": limiting_stage(report.stages, cores=config.jobs, gpu_lanes=lanes),
                "gpu_busy": {"samples": len(busy), "mean": statistics.fmean(busy)}
                if busy
                else "no nvidia-smi",
            }


_IN_ORDER = (gate, limits, start, agreement, kernels, clusters, stages, extraction, batches, presets, tiles)

SECTIONS: dict[str, Callable[[bool], Iterator[JsonObject]]] = {
    section.__name__: section for section in _IN_ORDER
}
"""In order of importance: the last ones may run out of time."""
