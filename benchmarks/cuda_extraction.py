"""An extraction from files to the store on all cores and one GPU: end to end."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cuda_limits import gpu_busy
from benchmarks.cuda_timing import counts, tried
from benchmarks.cuda_workload import Workload, moving_images, size_name
from benchmarks.record import JsonObject
from flowkit.errors import BackendUnavailableError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import ExtractReport, ExtractSetup, prepare, run, server_configs
from flowkit.extraction.sources import find_sources
from flowkit.extraction.timing import limiting_stage
from flowkit.frames import pair_indices
from flowkit.resize_rule import ResizeRule
from flowkit.tvl1 import cpu
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.plan import Size
from flowkit.tvl1.server.server import LANES

LIBRARIES = ("av", "deflate", "simplejpeg")
"""With a slower way beside each."""

_COUNTED_FRAMES = 33


def extraction(workload: Workload) -> Iterator[JsonObject]:
    """Extract clips from files, frames and i8 flow, with all cores: a few first, then all."""
    yield {"libraries": {name: _version(name) for name in LIBRARIES}, "native": _native()}
    clips, frames, copies = workload.clips
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if workload.video:
            copy_clips(folder / "few", Path(workload.video), clips=clips)
        else:
            write_clips(folder / "few", workload.size, clips=clips, frames=frames)
        counted = _counted(sorted((folder / "few").iterdir())[0], workload)
        yield tried(
            {"turn": "few clips, processes started"},
            functools.partial(_extracted, folder / "few", workload, counted),
        )
        for k in range(copies):
            shutil.copytree(folder / "few", folder / "all" / str(k))
        yield tried({"turn": "all clips"}, functools.partial(_extracted, folder / "all", workload, counted))


def copy_clips(folder: Path, video: Path, *, clips: int) -> None:
    """Copy one file under as many names."""
    folder.mkdir(parents=True)
    for k in range(clips):
        shutil.copy(video, folder / f"{k}{video.suffix}")


def write_clips(folder: Path, size: Size, *, clips: int, frames: int) -> None:
    """Write XviD clips from other parts of one drift."""
    folder.mkdir(parents=True)
    images, (height, width) = moving_images(size, frames), size
    for k in range(clips):
        writer = cv2.VideoWriter(
            str(folder / f"{k}.avi"), cv2.VideoWriter.fourcc(*"XVID"), 25, (width, height)
        )
        for image in np.roll(images, k * len(images) // clips, axis=0):
            writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        writer.release()


def _counted(clip: Path, workload: Workload) -> JsonObject:
    """Return the iterations of a pair of a clip's first frames, as they are decoded."""

    def count() -> JsonObject:
        params, greys = workload.params(), _decoded(clip)
        iterations = cuda.load(params).flow_and_iterations(greys, pair_indices(len(greys), 1))[1]
        return counts(iterations, workload.size, params)

    return tried({"counted_pairs": _COUNTED_FRAMES - 1}, count)


def _decoded(clip: Path) -> NDArray[np.uint8]:
    capture = cv2.VideoCapture(str(clip))
    greys: list[NDArray[np.uint8]] = []
    while len(greys) < _COUNTED_FRAMES and (frame := capture.read()[1]) is not None:
        greys.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8))
    return np.stack(greys)


def _extracted(videos: Path, workload: Workload, counted: JsonObject) -> JsonObject:
    config = ExtractConfig(backend="cuda", params=workload.params(), resize=ResizeRule(mode="native"))
    setup = prepare(find_sources([videos]), videos.with_suffix(".h5"), config=config)
    busy: list[float] = []
    began = time.perf_counter()
    with gpu_busy(busy):
        report = run(setup)
    seconds = time.perf_counter() - began
    result = {"size": size_name(workload.size), **_speed(report, setup, seconds), **counted}
    result["gpu_busy"] = {"samples": len(busy), "mean": statistics.fmean(busy)} if busy else "no nvidia-smi"
    if report.failures:
        result["failed"] = f"{len(report.failures)} videos: {report.failures[0].detail}"
    return result


def _speed(report: ExtractReport, setup: ExtractSetup, seconds: float) -> JsonObject:
    frames = sum(outcome.n_frames for outcome in report.outcomes)
    pairs, jobs = sum(outcome.n_flow for outcome in report.outcomes), setup.config.jobs
    lanes = LANES * len(server_configs(setup))
    return {
        "videos": report.stored,
        "frames": frames,
        "pairs": pairs,
        "seconds": seconds,
        "frames_per_second": frames / seconds,
        "pairs_per_second": pairs / seconds,
        "jobs": jobs,
        "decoder": setup.decoder,
        "seconds_of_work": report.stages,
        "seconds_of_phases": report.phases,
        "limits": limiting_stage(
            report.stages, cores=jobs, gpu_lanes=lanes, videos=len(report.outcomes), phases=report.phases
        )
        if report.stages
        else "",
    }


def _version(name: str) -> str:
    try:
        importlib.import_module(name)
        return importlib.metadata.version(name)
    except ImportError as error:  # PackageNotFoundError is one
        return f"absent: {error}"


def _native() -> str:
    """Return the CPU engine's instruction sets, or why it is absent."""
    try:
        return ", ".join(cpu.instruction_sets())
    except BackendUnavailableError as error:
        return f"absent: {error}"
