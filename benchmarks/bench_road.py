"""The road of a frame without the solver: CPU time of workers, server and coordinator, and each stage.

    python -m benchmarks.bench_road [--jobs N] [--rate R] [--video FILE] [--videos FEW MANY] [--repeats N]

Copies of one video are extracted by the real workers, server process, shared memory, parts and
store; in the server, `canned_engine` hands out codes of the same video at `--rate` pairs a second
instead of computing. Runs with FEW and MANY copies take turns, each in a process of its own; the
difference of their medians is the steady state, and what remains of the runs with FEW their
start-up and end. On a machine with other work, judge by the CPU seconds, not by the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.canned_engine import CODES_VARIABLE, RATE_VARIABLE
from benchmarks.cuda_extraction import write_clips
from benchmarks.record import JsonObject, write_result
from flowkit.executor import LocalExecutor
from flowkit.extraction import run as extraction
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.sources import find_sources
from flowkit.extraction.store_run import VideoOutcome
from flowkit.frames import pair_indices
from flowkit.jobs import Progress
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.engine import codes_solver
from flowkit.tvl1.params import resolve_params
from flowkit.tvl1.server import client
from flowkit.tvl1.server.client import ServerConfig, Servers

MOST_PAIRS = 163
PROCESSES = ("workers", "server", "coordinator")
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, all of its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def write_codes(video: Path, path: Path) -> int:
    """Compute the codes of a video's first pairs with the CPU engine; return the number of frames."""
    capture, count = cv2.VideoCapture(str(video)), 0
    greys: list[NDArray[np.uint8]] = []
    while (frame := capture.read()[1]) is not None:
        count += 1
        if len(greys) <= MOST_PAIRS:
            greys.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8))
    solver = codes_solver(cpu.load(resolve_params("opencv-cuda")))
    made = solver.codes_batch(np.stack(greys), pair_indices(len(greys)), quantizer=FIELD_SCALE)
    np.savez(path, codes=made.codes, scales=made.scales, largest_px=made.largest_px)
    return count


class _MeasuredServers(Servers):
    """Servers whose CPU seconds are read before they end."""

    seconds = 0.0

    def close(self) -> None:
        type(self).seconds += sum(cpu_seconds(process.pid) for process in self._processes)
        super().close()


class _MeasuredExecutor(LocalExecutor):
    """Workers whose CPU seconds are read before they end."""

    seconds = 0.0

    def close(self) -> None:
        pids = [self.board.pid(slot) for slot in range(self.jobs)]
        type(self).seconds += sum(cpu_seconds(pid) for pid in pids if pid)
        super().close()


def measure(videos: Path, store: Path, jobs: int) -> JsonObject:
    """Extract a folder in this process, and return what each kind of process took."""
    extraction.server_configs = lambda setup: [ServerConfig(backend="canned")]
    setattr(extraction, "Servers", _MeasuredServers)  # noqa: B010
    setattr(extraction, "LocalExecutor", _MeasuredExecutor)  # noqa: B010
    client._START = "import sys; " + client._START.replace(
        "from flowkit", "from benchmarks import canned_engine; canned_engine.register(); from flowkit", 1
    )
    before, began = cpu_seconds(os.getpid()), time.perf_counter()
    config = ExtractConfig(backend="cpu", jobs=jobs, resize=ResizeRule(mode="native"))
    setup = extraction.prepare(find_sources([videos]), store, config=config)
    ends: list[float] = []

    def note(now: Progress[VideoOutcome]) -> None:
        if now.outcome is not None:
            ends.append(time.perf_counter())

    report = extraction.run(setup, on_progress=note)
    wall = time.perf_counter() - began
    if report.failures:
        raise SystemExit(f"{len(report.failures)} videos failed: {report.failures[0].detail}")
    return {
        "frames": sum(outcome.n_frames for outcome in report.outcomes),
        "wall": wall,
        "pack": began + wall - ends[-1],
        "workers": _MeasuredExecutor.seconds,
        "server": _MeasuredServers.seconds,
        "coordinator": cpu_seconds(os.getpid()) - before,
        "stages": report.stages,
        "store_bytes": store.stat().st_size,
    }


def run_apart(videos: Path, jobs: int, rate: float, codes: Path) -> JsonObject:
    """Measure in a new process, which imports everything anew."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--measure", str(videos), str(Path(folder) / "out.h5"), "--jobs", str(jobs)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_road", *words],
            env={**os.environ, CODES_VARIABLE: str(codes), RATE_VARIABLE: str(rate)},
            stdout=subprocess.PIPE,
            check=True,
        )
    made: JsonObject = json.loads(done.stdout)
    return made


def summary(few: list[JsonObject], many: list[JsonObject]) -> JsonObject:
    """Return the steady state, ms a frame, and the start-up, seconds, by the medians of both lengths."""

    def median(runs: list[JsonObject], key: str) -> float:
        return float(statistics.median(run[key] for run in runs))

    frames = many[0]["frames"] - few[0]["frames"]
    a_frame = {k: 1e3 * (median(many, k) - median(few, k)) / frames for k in (*PROCESSES, "wall")}
    stages = {
        stage: 1e3 * statistics.median(run["stages"][stage] / run["frames"] for run in many)
        for stage in many[0]["stages"]
    }
    return {
        "cpu_ms_a_frame": {k: a_frame[k] for k in PROCESSES} | {"all": sum(a_frame[k] for k in PROCESSES)},
        "frames_per_second": 1e3 / a_frame["wall"],
        "start_seconds": {
            k: median(few, k) - 1e-3 * a_frame[k] * few[0]["frames"] for k in (*PROCESSES, "wall")
        },
        "pack_seconds_at_the_end": median(many, "pack"),
        "stage_ms_a_frame": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--video", type=Path, help="any small one; without it a made one of 320x240")
    parser.add_argument("--videos", type=int, nargs=2, help="copies: default 2 and 10 a worker")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        videos, store = args.measure
        print(json.dumps(measure(videos, store, args.jobs)))
        return
    lengths = args.videos or [2 * args.jobs, 10 * args.jobs]
    with tempfile.TemporaryDirectory() as temporary:
        folder, codes = Path(temporary), Path(temporary) / "codes.npz"
        if args.video is None:
            write_clips(folder / "made", (240, 320), clips=1, frames=MOST_PAIRS + 1)
        video = args.video or folder / "made" / "0.avi"
        frames = write_codes(video, codes)
        for length in lengths:
            (folder / str(length)).mkdir()
            for k in range(length):
                shutil.copy(video, folder / str(length) / f"{k}{video.suffix}")
        runs: dict[int, list[JsonObject]] = {length: [] for length in lengths}
        for _ in range(args.repeats):
            for length in lengths:
                runs[length].append(run_apart(folder / str(length), args.jobs, args.rate, codes))
    result = {
        "question": "CPU time of an extraction outside the solver, by process and stage",
        "video": {"name": video.name, "frames": frames},
        "jobs": args.jobs,
        "rate": args.rate,
        **summary(*runs.values()),
        "runs": {str(length): each for length, each in runs.items()},
    }
    path = write_result("road", result)
    shown = {key: value for key, value in result.items() if key != "runs"}
    print(json.dumps(shown, indent=1), path, file=sys.stdout)


if __name__ == "__main__":
    main()
