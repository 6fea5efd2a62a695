"""Measure the CPU engine against OpenCV: speed, accuracy, its own limits.

Run from the checkout: ``python -m benchmarks.bench_tvl1 [--repeats 5] [--quick]``. Every
contestant solves the same pair in turn, A B C A B C ..., in this process with one thread; a
speed-up is the ratio of the medians of the thread's CPU time, so that other programs disturb
it little; wall times stand beside it. Needs FLOWKIT_TEST_DATA (default ../shared/data) and
g++ for the inner loop's limit. Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import UNKNOWN_PX, average_end_point_error, circumstances, read_grey
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference_pyramid import level_sizes

ROOT = Path(__file__).resolve().parent.parent
GREY = NDArray[np.uint8]
FLOW = NDArray[np.float32]

GROUND_TRUTH = ("RubberWhale", "Venus")
# Short side in px that the clip is resized to, and the first frames of its pairs.
CLIPS = {
    "misc/tests_data_test.avi": (240, (20, 80, 140)),
    "decord/flipping_a_pancake.mkv": (240, (40, 150, 260)),
    "misc/bikes.mp4": (256, (30, 120, 210)),
    "decord/corrupted.mp4": (720, (10,)),
}
BARS = (("opencv-cpu", "cv2"), ("opencv-cuda", "cv2 CUDA-like"), ("fast", "cv2"), ("accurate", "cv2"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two grey frames and, where it is known, the true flow (NaN where unknown)."""

    name: str
    frames: GREY
    true: FLOW | None = None


def ground_truth_pair(folder: Path) -> Pair:
    frames = np.stack([read_grey(folder / name) for name in ("frame10.png", "frame11.png")])
    values = np.frombuffer((folder / "flow10.flo").read_bytes(), "<f4", offset=12)
    true = values.reshape(*frames.shape[1:], 2).transpose(2, 0, 1)
    true = np.where(np.abs(true) > UNKNOWN_PX, np.float32(np.nan), true)
    return Pair(name=folder.name, frames=frames, true=true)


def clip_pairs(videos: Path, name: str) -> list[Pair]:
    short_side, starts = CLIPS[name]
    capture = cv2.VideoCapture(str(videos / name))
    grey: list[GREY] = []
    while len(grey) < max(starts) + 2:
        ok, frame = capture.read()
        if not ok:
            raise SystemExit(f"{videos / name} ends after {len(grey)} frames, {max(starts) + 2} are needed")
        ratio = short_side / min(frame.shape[:2])
        if ratio < 1:
            frame = cv2.resize(frame, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        grey.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8))
    return [Pair(name=f"{name}#{k}", frames=np.stack(grey[k : k + 2])) for k in starts]


def cv2_tvl1(*, cuda_like: bool) -> Callable[[GREY], FLOW]:
    def solve(frames: GREY) -> FLOW:
        tvl1 = cv2.optflow.DualTVL1OpticalFlow.create()
        if cuda_like:
            tvl1.setMedianFiltering(1)
            tvl1.setInnerIterations(1)
            tvl1.setOuterIterations(300)
        return planar(tvl1.calc(frames[0], frames[1], np.zeros((*frames.shape[1:], 2), np.float32)))

    return solve


def planar(flow: Any) -> FLOW:
    return np.ascontiguousarray(np.moveaxis(np.asarray(flow, np.float32), -1, 0))


def engine(preset: str, isa: str | None = None) -> Callable[[GREY], FLOW]:
    solver = cpu.load(PRESETS[preset], isa=isa)
    return lambda frames: solver.flow_batch(frames, [[0, 1]])[0]


def contestants() -> dict[str, Callable[[GREY], FLOW]]:
    found = {"cv2": cv2_tvl1(cuda_like=False), "cv2 CUDA-like": cv2_tvl1(cuda_like=True)}
    found |= {preset: engine(preset) for preset in PRESETS}
    for isa in cpu.instruction_sets()[1:]:
        found[f"opencv-cpu {isa}"] = engine("opencv-cpu", isa)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found["cv2 DIS medium"] = lambda frames: planar(
        dis.calc(frames[0], frames[1], np.zeros((*frames.shape[1:], 2), np.float32))
    )
    found["cv2 Farneback"] = lambda frames: planar(
        cv2.calcOpticalFlowFarneback(frames[0], frames[1], np.empty(0), 0.5, 5, 15, 3, 5, 1.2, 0)
    )
    return found


def measure_pair(pair: Pair, repeats: int) -> dict[str, Any]:
    """Let every contestant solve the pair in turn, `repeats` times after one round of warming up."""
    entrants = contestants()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in entrants}
    rows: dict[str, Any] = {name: {} for name in entrants}
    for round_number in range(repeats + 1):
        for name, solve in entrants.items():
            wall, busy = time.perf_counter(), time.thread_time()
            flow = solve(pair.frames)
            times = (time.thread_time() - busy, time.perf_counter() - wall)
            if round_number:
                seconds[name].append(times)
            elif pair.true is not None:
                rows[name]["aee_px"] = average_end_point_error(flow, pair.true)
    for name, times_of in seconds.items():
        cpu_times, wall_times = zip(*times_of, strict=True)
        rows[name] |= {
            "cpu_s": statistics.median(cpu_times),
            "wall_s": statistics.median(wall_times),
            "all_cpu_s": cpu_times,
        }
    for preset in PRESETS:
        rows[preset] |= work_done(pair, preset, rows[preset]["cpu_s"])
    return rows


def work_done(pair: Pair, preset: str, seconds: float) -> dict[str, float]:
    params = PRESETS[preset]
    counts = cpu.load(params).flow_and_iterations(pair.frames, [[0, 1]])[1][0].sum(axis=1)
    height, width = pair.frames.shape[1:]
    areas = [h * w for h, w in level_sizes((height, width), params)][::-1]
    pixel_iterations = float(np.dot(counts, areas))
    return {"iterations": int(counts.sum()), "mpx_iterations_per_s": pixel_iterations / seconds / 1e6}


def speedups(pairs: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        f"{ours} against {theirs}": {
            name: rows[theirs]["cpu_s"] / rows[ours]["cpu_s"] for name, rows in pairs.items()
        }
        for ours, theirs in BARS
    }


def relative_errors(pairs: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        ours: {
            name: rows[ours]["aee_px"] / rows[theirs]["aee_px"]
            for name, rows in pairs.items()
            if "aee_px" in rows[ours]
        }
        for ours, theirs in BARS
    }


def measure_threads(frames: GREY, repeats: int) -> dict[str, Any]:
    """Wall time of 16 pairs with one thread and with two, in turn."""
    solver = cpu.load(PRESETS["opencv-cuda"])
    stack = np.stack([frames[k % 2] for k in range(17)])
    pairs = [[k, k + 1] for k in range(16)]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for threads, taken in seconds.items():
            start = time.perf_counter()
            solver.flow_batch(stack, pairs, threads=threads)
            taken.append(time.perf_counter() - start)
    medians = {threads: statistics.median(taken) for threads, taken in seconds.items()}
    return {"wall_s": seconds, "speedup": medians[1] / medians[2], "cores": os.cpu_count()}


def measure_inner_loop() -> list[dict[str, Any]]:
    """Compare the inner loop with what the divider and the multiply-add units allow.

    Per vector of pixels one iteration takes two square roots and one division, which the
    divider does one after the other; the limit is that time over the lanes.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        return []
    native = ROOT / "flowkit" / "tvl1" / "native"
    flags = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w"]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for lanes in (16, 8, 4):
            program = Path(folder) / str(lanes)
            sources = [*sorted(native.glob("*.cpp")), Path(__file__).with_name("inner_loop.cpp")]
            command = [compiler, *flags, "-pthread", "-I", str(native), f"-DFLOWKIT_BENCH_LANES={lanes}"]
            subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
            done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
            if done.returncode:  # this machine lacks the instruction set
                continue
            row = json.loads(done.stdout)
            row["divider_limit_ns_per_px"] = (2 * row["sqrt_ns"] + row["divide_ns"]) / lanes
            row["fraction_of_divider_limit"] = row["divider_limit_ns_per_px"] / row["inner_loop_ns_per_px"]
            found.append(row)
    return found


def peak_memory_mib(preset: str, shape: tuple[int, int]) -> float:
    """Peak resident memory that solving one pair adds to a fresh interpreter, MiB."""
    code = f"""
import numpy as np
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS
frames = np.random.default_rng(0).integers(0, 256, (2, *{shape}), dtype=np.uint8)
solver = cpu.load(PRESETS[{preset!r}])
def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = peak_kib()
solver.flow_batch(frames, [[0, 1]])
print((peak_kib() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout)


def print_pair(name: str, rows: dict[str, Any]) -> None:
    print(f"\n{name}", flush=True)
    for contestant, row in rows.items():
        error = f"AEE {row['aee_px']:.4f} px" if "aee_px" in row else ""
        work = ""
        if "iterations" in row:
            work = f"{row['iterations']} iterations, {row['mpx_iterations_per_s']:.0f} Mpx it/s"
        print(f"  {contestant:22} {row['cpu_s'] * 1e3:9.1f} ms  {error:15} {work}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair a clip and no 1280x720")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    pairs = [ground_truth_pair(data / "flow_gt" / name) for name in GROUND_TRUTH]
    for clip in CLIPS:
        found = clip_pairs(data / "videos", clip)
        pairs += found[: (clip != "decord/corrupted.mp4") if options.quick else None]
    report: dict[str, Any] = {
        "circumstances": circumstances()
        | {"load_average": os.getloadavg(), "instruction_sets": cpu.instruction_sets()},
        "repeats": options.repeats,
        "inner_loop": measure_inner_loop(),
        "threads": measure_threads(pairs[2].frames, options.repeats),
        "peak_memory_mib": {
            f"{preset} {h}x{w}": peak_memory_mib(preset, (h, w))
            for preset in ("opencv-cuda", "opencv-cpu")
            for h, w in ((240, 320), (720, 1280))
        },
        "pairs": {},
    }
    print(json.dumps({key: report[key] for key in ("inner_loop", "threads", "peak_memory_mib")}, indent=1))
    for pair in pairs:
        report["pairs"][pair.name] = measure_pair(pair, options.repeats)
        print_pair(pair.name, report["pairs"][pair.name])
    report["speedups"] = speedups(report["pairs"])
    report["relative_aee"] = relative_errors(report["pairs"])
    target = ROOT / "benchmarks" / "results" / f"tvl1-cpu-{report['circumstances']['date'][:10]}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("speedups", "relative_aee")}, indent=1))
    print(f"written to {target}")


if __name__ == "__main__":
    main()
