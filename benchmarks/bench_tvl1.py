"""Measure the CPU engine against OpenCV: speed, accuracy, its own limits.

Run from the checkout: ``python -m benchmarks.bench_tvl1 [--repeats 5] [--quick]``. Every
contestant solves the same pair in turn, A B C, then the next pair, and all of that again, in
this process with one thread. A pair's time is the median of the thread's CPU time, so that other
programs disturb it little (wall times stand beside it); a clip's is the sum over its pairs, which
is what its extraction costs. Needs FLOWKIT_TEST_DATA (default ../shared/data) and g++ for the
inner loop's limit. Writes one JSON file to benchmarks/results.
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
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from benchmarks.accuracy import average_end_point_error
from benchmarks.record import ROOT, JsonObject, write_result
from benchmarks.tvl1_pairs import CLIPS, FLOW, GREY, GROUND_TRUTH, QUICK, Pair, clip_pairs, ground_truth_pair
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference.pyramid import level_sizes

BARS = (
    ("opencv-cpu", "cv2"),
    ("opencv-cuda", "cv2 CUDA-like"),
    ("fast", "cv2"),
    ("accurate", "cv2"),
    ("opencv-cpu", "opencv-cpu avx2"),
)
"""Ours, and the baseline whose time is divided by ours."""

Solve = Callable[[GREY], FLOW]


def cv2_tvl1(*, cuda_like: bool) -> Solve:
    def solve(frames: GREY) -> FLOW:
        tvl1 = cv2.optflow.DualTVL1OpticalFlow.create()
        if cuda_like:
            tvl1.setMedianFiltering(1)
            tvl1.setInnerIterations(1)
            tvl1.setOuterIterations(300)
        return planar(tvl1.calc(frames[0], frames[1], np.zeros((*frames.shape[1:], 2), np.float32)))

    return solve


def planar(flow: ArrayLike) -> FLOW:
    return np.ascontiguousarray(np.moveaxis(np.asarray(flow, np.float32), -1, 0))


def engine(preset: str, isa: str | None = None) -> Solve:
    solver = cpu.load(PRESETS[preset], isa=isa)
    return lambda frames: solver.flow_batch(frames, [[0, 1]])[0]


def contestants() -> dict[str, Solve]:
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


def measure(pairs: Sequence[Pair], repeats: int) -> JsonObject:
    """Let every contestant solve every pair in turn, `repeats` times over."""
    entrants = contestants()
    taken: dict[str, list[list[tuple[float, float]]]] = {name: [[] for _ in pairs] for name in entrants}
    errors: dict[str, float] = {}
    for preset in PRESETS:  # the others need no warming up, and cv2 takes seconds
        entrants[preset](pairs[0].frames)
    for _ in range(repeats):
        for k, pair in enumerate(pairs):
            for name, solve in entrants.items():
                wall, busy = time.perf_counter(), time.thread_time()
                flow = solve(pair.frames)
                taken[name][k].append((time.thread_time() - busy, time.perf_counter() - wall))
                if pair.true is not None:
                    errors[name] = average_end_point_error(flow, pair.true)
    rows = {name: summarise(times) for name, times in taken.items()}
    for name, error in errors.items():
        rows[name]["aee_px"] = error
    for preset in PRESETS:
        rows[preset] |= work_done(pairs, preset, rows[preset]["cpu_s"])
    return {"pairs": [pair.name for pair in pairs], "size": pairs[0].frames.shape[1:], "contestants": rows}


def summarise(times: Sequence[Sequence[tuple[float, float]]]) -> JsonObject:
    """Return medians of CPU and wall seconds of each pair, and their sums."""
    cpu_s = [statistics.median(busy for busy, _ in of_pair) for of_pair in times]
    wall_s = [statistics.median(wall for _, wall in of_pair) for of_pair in times]
    return {"cpu_s": sum(cpu_s), "wall_s": sum(wall_s), "pair_cpu_s": cpu_s}


def work_done(pairs: Sequence[Pair], preset: str, seconds: float) -> JsonObject:
    params = PRESETS[preset]
    areas = [h * w for h, w in level_sizes(pairs[0].frames.shape[1:], params)][::-1]
    solver = cpu.load(params)
    counts = [solver.flow_and_iterations(pair.frames, [[0, 1]])[1][0].sum(axis=1) for pair in pairs]
    pixel_iterations = float(sum(np.dot(count, areas) for count in counts))
    return {
        "pair_iterations": [int(count.sum()) for count in counts],
        "mpx_iterations_per_s": pixel_iterations / seconds / 1e6,
    }


def speedups(groups: dict[str, JsonObject]) -> JsonObject:
    """Return, per bar and clip, the baseline's time over ours, in all and pair by pair."""
    return {
        f"{ours} against {theirs}": {
            name: {
                "speedup": rows[theirs]["cpu_s"] / rows[ours]["cpu_s"],
                "by_pair": [
                    round(slow / fast, 2)
                    for slow, fast in zip(rows[theirs]["pair_cpu_s"], rows[ours]["pair_cpu_s"], strict=True)
                ],
            }
            for name, rows in ((name, group["contestants"]) for name, group in groups.items())
        }
        for ours, theirs in BARS
        if all(theirs in group["contestants"] for group in groups.values())
    }


def relative_errors(groups: dict[str, JsonObject]) -> dict[str, dict[str, float]]:
    return {
        name: {ours: rows[ours]["aee_px"] / rows[theirs]["aee_px"] for ours, theirs in BARS[:4]}
        for name, rows in ((name, group["contestants"]) for name, group in groups.items())
        if "aee_px" in rows["cv2"]
    }


def measure_threads(frames: GREY, repeats: int) -> JsonObject:
    """Return the wall time of 16 pairs with one thread and with two, in turn."""
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


def measure_inner_loop() -> list[JsonObject]:
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
    """Return the peak resident memory that solving one pair adds to a fresh interpreter, MiB."""
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


def print_group(name: str, group: JsonObject) -> None:
    print(f"\n{name}: {len(group['pairs'])} pair(s)", flush=True)
    for contestant, row in group["contestants"].items():
        error = f"AEE {row['aee_px']:.4f} px" if "aee_px" in row else ""
        work = ""
        if "pair_iterations" in row:
            work = f"{sum(row['pair_iterations'])} iterations, {row['mpx_iterations_per_s']:.0f} Mpx it/s"
        milliseconds = row["cpu_s"] / len(group["pairs"]) * 1e3
        print(f"  {contestant:22} {milliseconds:9.1f} ms/pair  {error:15} {work}", flush=True)


def measure_limits(frames: GREY, repeats: int) -> JsonObject:
    return {
        "inner_loop": measure_inner_loop(),
        "threads": measure_threads(frames, repeats),
        "peak_memory_mib": {
            f"{preset} {h}x{w}": peak_memory_mib(preset, (h, w))
            for preset in ("opencv-cuda", "opencv-cpu")
            for h, w in ((240, 320), (720, 1280))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help=f"of the clips only {QUICK}")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    clips = {name: CLIPS[name] for name in (QUICK if options.quick else CLIPS)}
    work = {name: [ground_truth_pair(data / "flow_gt" / name)] for name in GROUND_TRUTH}
    work |= {name: clip_pairs(data / "videos", clip) for name, clip in clips.items()}
    limits = measure_limits(work[QUICK[0]][1].frames, options.repeats)
    print(json.dumps(limits, indent=1))
    groups: dict[str, JsonObject] = {}
    for name, pairs in work.items():
        groups[name] = measure(pairs, options.repeats)
        print_group(name, groups[name])
    report = {
        "opencv": cv2.__version__,
        "instruction_sets": cpu.instruction_sets(),
        "repeats": options.repeats,
        "speedups": speedups(groups),
        "relative_aee": relative_errors(groups),
        **limits,
        "groups": groups,
    }
    print(json.dumps({key: report[key] for key in ("speedups", "relative_aee")}, indent=1))
    print(f"written to {write_result('tvl1-cpu', report)}")


if __name__ == "__main__":
    main()
