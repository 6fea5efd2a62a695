"""Build, check and time the CUDA engine on a machine with a GPU, in one command.

    python -m benchmarks.bench_cuda [--quick] [--sections gate,start,kernels,...]

Writes bench_cuda.json into $OUT, or into benchmarks/results. Needs cupy, NVRTC and pytest; runs
from a checkout without installing it. Each section is a process of its own with a time limit, so
that a hang or a crash of one costs that one alone. Nothing is timed if the gate fails, unless
--no-gate says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import RESULTS, ROOT, circumstances
from flowkit import extract
from flowkit.errors import BackendUnavailableError
from flowkit.inputs import find_sources
from flowkit.synth import SynthConfig, make_dataset
from flowkit.tvl1 import cpu, cuda
from flowkit.tvl1.cuda_batch import Method
from flowkit.tvl1.cuda_device import open_device
from flowkit.tvl1.cuda_plan import TileShape
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference_pyramid import level_sizes

SECTION_SECONDS = {"gate": 240}
OTHER_SECTIONS_SECONDS = 150

SIZES = {"320x240": (240, 320), "340x256": (256, 340), "1280x720": (720, 1280)}
FORCED = dataclasses.replace(PRESETS["opencv-cuda"], epsilon=0.0)
REPEATS = 3

# Machine instructions of a pixel-iteration in the tile solver's loop for sm_90 (docs/cuda.md).
INSTRUCTIONS_PER_PIXEL_ITERATION = 46
LANES_PER_PROCESSOR = 128

TILES = {
    "64x64 halo 5": TileShape(),
    "64x64 halo 10": TileShape(halo=10),
    "64x32 halo 5": TileShape(warps=8),
    "32x64 halo 5": TileShape(columns=1),
    "64x32 rows 2 halo 5": TileShape(rows=2),
}


def moving_pictures(size: tuple[int, int], count: int) -> NDArray[np.uint8]:
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
        picture = np.where(disc, layers[1], layers[0])
        frames[k] = np.clip(128 + 45 * picture / picture.std(), 0, 255)
    return frames


def consecutive(pairs: int, frames: int) -> NDArray[np.int32]:
    first = np.arange(pairs) % (frames - 1)
    return np.stack([first, first + 1], axis=1).astype(np.int32)


def seconds_of(work: Callable[[], Any]) -> list[float]:
    """Return the seconds of REPEATS runs after one to warm up, the device waited for."""
    cupy = open_device(0).cupy
    times = []
    for _ in range(REPEATS + 1):
        cupy.cuda.runtime.deviceSynchronize()
        start = time.perf_counter()
        work()
        cupy.cuda.runtime.deviceSynchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def gate(quick: bool) -> Iterator[dict[str, Any]]:
    """Run the tests that are marked gpu; a skip is a failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/tvl1", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(["-k", "opencv or codes or kind"] if quick else [])],
        cwd=ROOT,
        env={**os.environ, "FLOWKIT_REQUIRE_CUDA": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    yield {"passed": done.returncode == 0, "output": done.stdout[-4000:] + done.stderr[-1000:]}


def start(quick: bool) -> Iterator[dict[str, Any]]:
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
    label: dict[str, Any], params: TVL1Params, size: tuple[int, int], pairs: int, **options: Any
) -> dict[str, Any]:
    """Time flow from frames on the device to flow on the device."""
    device, solver = open_device(0), cuda.load(params, **options)
    host = moving_pictures(size, min(pairs + 1, 33))
    rows = consecutive(pairs, len(host))
    with device.using():
        frames = device.cupy.asarray(host)
    iterations = solver.flow_and_iterations(host, rows[: len(host) - 1])[1]
    pixels = np.array([h * w for h, w in level_sizes(size, params)[::-1]])
    pixel_iterations = float((iterations.sum(axis=2) * pixels).sum(axis=1).mean())
    seconds = seconds_of(lambda: solver.flow_batch(frames, rows))
    rate = pairs / statistics.median(seconds)
    clock_hz = 1e3 * device.cupy.cuda.runtime.deviceGetAttribute(13, 0)  # cudaDevAttrClockRate
    issue = rate * pixel_iterations * INSTRUCTIONS_PER_PIXEL_ITERATION
    return {
        **label,
        "pairs": pairs,
        "seconds": seconds,
        "pairs_per_second": rate,
        "iterations_per_pair": float(iterations.sum(axis=(1, 2)).mean()),
        "pixel_iterations_per_second": rate * pixel_iterations,
        "share_of_issue_limit": issue / (device.processors * LANES_PER_PROCESSOR * clock_hz),
    }


def kernels(quick: bool) -> Iterator[dict[str, Any]]:
    """Time the default preset at each size, to convergence and with 300 iterations forced."""
    for name, size in list(SIZES.items())[: 1 if quick else None]:
        pairs = 256 if size[0] < 500 else 64
        for stop, params in (("eps .01", PRESETS["opencv-cuda"]), ("forced 300", FORCED)):
            count = pairs if params.epsilon else pairs // 4
            yield time_solver({"size": name, "stop": stop, "method": "tile"}, params, size, count)


def clusters(quick: bool) -> Iterator[dict[str, Any]]:
    """Time tiles against clusters, A B A B."""
    for stop, params in (("eps .01", PRESETS["opencv-cuda"]), ("forced 300", FORCED)):
        methods: tuple[Method, ...] = ("tile", "cluster") * (1 if quick else 2)
        for method in methods:
            label = {"size": "320x240", "stop": stop, "method": method}
            yield time_solver(label, params, SIZES["320x240"], 128, method=method)


def presets(quick: bool) -> Iterator[dict[str, Any]]:
    """Time every preset at 320x240."""
    for name, params in list(PRESETS.items())[: 2 if quick else None]:
        yield time_solver({"preset": name}, params, SIZES["320x240"], 256)


def batches(quick: bool) -> Iterator[dict[str, Any]]:
    """Time batches of one pair to hundreds."""
    for pairs in (1, 256) if quick else (1, 4, 16, 64, 128, 256):
        yield time_solver({"batch": pairs}, PRESETS["opencv-cuda"], SIZES["320x240"], pairs)


def tiles(quick: bool) -> Iterator[dict[str, Any]]:
    """Time shapes of tiles, with the same number of iterations for each."""
    for name, tile in list(TILES.items())[: 1 if quick else None]:
        params = dataclasses.replace(FORCED, iterations=100)
        yield time_solver({"tile": name}, params, SIZES["320x240"], 128, tile=tile)


def stages(quick: bool) -> Iterator[dict[str, Any]]:
    """Time the ways from the host: floats and codes back, and the copies alone."""
    device, pairs = open_device(0), 256 if quick else 1024
    host = moving_pictures(SIZES["320x240"], 33)
    rows = consecutive(pairs, len(host))
    solver = cuda.load(PRESETS["opencv-cuda"])
    ways: dict[str, Callable[[], Any]] = {
        "host to host, floats": lambda: solver.flow_batch(host, rows),
        "host to host, i8": lambda: solver.codes_batch(host, rows, code="i8"),
    }
    for name, work in ways.items():
        seconds = seconds_of(work)
        yield {"way": name, "seconds": seconds, "pairs_per_second": pairs / statistics.median(seconds)}
    with device.using():
        cupy = device.cupy
        a = cupy.zeros(1 << 30, np.uint8)
        b = cupy.empty_like(a)
        pinned = device.pinned((1 << 28,), np.uint8)
        copies: dict[str, Callable[[], Any]] = {
            "device to device (read and written)": lambda: cupy.copyto(b, a),
            "pinned to device": lambda: a[: 1 << 28].set(pinned, stream=cupy.cuda.get_current_stream()),
            "device to pinned": lambda: device.download_into(pinned, a[: 1 << 28]),
        }
        sizes = (2 << 30, 1 << 28, 1 << 28)
        for (name, work), count in zip(copies.items(), sizes, strict=True):
            yield {"copy": name, "gigabytes_per_second": count / statistics.median(seconds_of(work)) / 1e9}


def agreement(quick: bool) -> Iterator[dict[str, Any]]:
    """Compare with the CPU engine, where it is built: i8 codes and iterations."""
    host = moving_pictures(SIZES["320x240"], 5)
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


def extraction(quick: bool, backend: str = "cuda") -> Iterator[dict[str, Any]]:
    """Extract generated 320x240 clips from files, frames and i8 flow, with all cores: end to end."""
    clips = 2 if quick else 16
    made = SynthConfig(clips=clips, classes=2, width=320, height=240, frames=16 if quick else 128)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_dataset(folder / "videos", made, jobs=len(os.sched_getaffinity(0)))
        sources = find_sources([folder / "videos"])
        config = extract.ExtractConfig(backend=backend)
        for turn in ("first, kernels compiled or cached", "second"):
            setup = extract.prepare(sources, folder / f"{turn[:5]}.h5", config)
            began = time.perf_counter()
            report = extract.run(setup)
            seconds = time.perf_counter() - began
            frames = sum(outcome.n_frames for outcome in report.outcomes)
            yield {
                "turn": turn,
                "videos": report.stored,
                "frames_per_second": frames / seconds,
                "jobs": config.jobs,
                "seconds_of_work": report.stages,
            }


SECTIONS: dict[str, Callable[[bool], Iterator[dict[str, Any]]]] = {
    section.__name__: section
    for section in (gate, start, agreement, kernels, clusters, presets, batches, tiles, stages, extraction)
}


def run_section(name: str, quick: bool) -> list[dict[str, Any]]:
    """Run a section in a process of its own; what it yielded before a failure is kept."""
    limit = SECTION_SECONDS.get(name, OTHER_SECTIONS_SECONDS)
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_cuda",
        "--section",
        name,
        *(["--quick"] if quick else []),
    ]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            status: object = subprocess.run(
                command, cwd=ROOT, stdout=out, stderr=err, timeout=limit, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit} s"
        out.seek(0)
        err.seek(0)
        results: list[dict[str, Any]] = [json.loads(line) for line in out if line.startswith("{")]
        if status != 0:
            results.append({"failed": status, "stderr": err.read()[-3000:]})
    return results


def where() -> dict[str, Any]:
    """Return the circumstances, and the GPU; without git where the checkout has none."""
    device = open_device(0)
    runtime = device.cupy.cuda.runtime
    gpu = {
        "name": device.name,
        "capability": device.capability,
        "processors": device.processors,
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "cupy": device.cupy.__version__,
    }
    try:
        return {"gpu": gpu, **circumstances()}
    except (OSError, subprocess.CalledProcessError):
        return {"gpu": gpu, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of each section")
    parser.add_argument("--no-gate", action="store_true", help="time even if the tests fail")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, in order")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        for result in SECTIONS[options.section](options.quick):
            print(json.dumps(result), flush=True)
        return
    report: dict[str, Any] = {"circumstances": where()}
    path = Path(os.environ.get("OUT", RESULTS)) / "bench_cuda.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in options.sections.split(","):
        report[name] = run_section(name, options.quick)
        print(name, json.dumps(report[name], indent=1), flush=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        if name == "gate" and not all(r.get("passed") for r in report[name]) and not options.no_gate:
            sys.exit("the gate failed: nothing is timed")
    print(path)


if __name__ == "__main__":
    main()
