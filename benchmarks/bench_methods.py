"""Measure methods beside TV-L1: pairs/s against a plain loop over cv2 on the same cores, and the accuracy.

Run from the checkout: ``python -m benchmarks.bench_methods``. It reads the Middlebury pairs RubberWhale and
Venus and the clip ``videos/misc/demo_demo.mp4`` (340x256) of FLOWKIT_TEST_DATA (default: ../shared/data) and
writes one JSON file to benchmarks/results. Two minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import PAIRS, average_end_point_error, read_pair
from benchmarks.record import ROOT, JsonObject, write_result
from flowkit.frames import pair_indices, to_grey
from flowkit.methods import flow_method
from flowkit.video.reader import open_video

CV2_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
TVL1 = ("tvl1/opencv-cuda", "tvl1/fast", "tvl1/accurate")

Loop = Callable[[NDArray[np.uint8]], None]


def planes(flow: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return cv2's (H, W, 2) as (2, H, W), u then v, as flowkit's engines give it."""
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


def dis_loop(name: str) -> Loop:
    def loop(greys: NDArray[np.uint8]) -> None:
        solver = cv2.DISOpticalFlow.create(CV2_PRESETS[name])
        for a, b in itertools.pairwise(greys):
            planes(solver.calc(a, b, None))  # type: ignore[call-overload]

    return loop


def farneback_loop(*values: float) -> Loop:
    def loop(greys: NDArray[np.uint8]) -> None:
        for a, b in itertools.pairwise(greys):
            planes(cv2.calcOpticalFlowFarneback(a, b, None, *values))  # type: ignore[call-overload]

    return loop


# What a script does: one pair after the other, cv2 with its own threads on all cores.
LOOPS: dict[str, Loop] = {
    **{f"dis/{name}": dis_loop(name) for name in CV2_PRESETS},
    "farneback/samples": farneback_loop(0.5, 3, 15, 3, 5, 1.2, 0),
    "farneback/defaults": farneback_loop(0.5, 5, 13, 10, 5, 1.1, 0),
}


def read_greys(path: Path, count: int) -> NDArray[np.uint8]:
    with open_video(path) as reader:
        return np.stack([to_grey(frame.rgb) for frame in itertools.islice(reader, count)])


def timed(work: Loop, greys: NDArray[np.uint8]) -> tuple[float, float]:
    """Return pairs/s, and the CPU time of all threads a pair, ms: it bears other work on the machine."""
    pairs, began, used = len(greys) - 1, time.perf_counter(), time.process_time()
    work(greys)
    return pairs / (time.perf_counter() - began), 1000 * (time.process_time() - used) / pairs


def in_calls(method: str, cores: int) -> Loop:
    """Return the work of flowkit's pipeline: calls of a few pairs, as many at once as there are cores."""
    solver = flow_method(method).load()

    def call(frames: NDArray[np.uint8]) -> None:
        solver.flow_batch(frames, pair_indices(len(frames)))

    def loop(greys: NDArray[np.uint8]) -> None:
        size = solver.pairs_per_call
        chunks = [greys[k : k + size + 1] for k in range(0, len(greys) - 1, size)]
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(call, chunks))

    return loop


def measure_speed(method: str, greys: NDArray[np.uint8], cores: int, repeats: int) -> JsonObject:
    """Return the speed of flowkit and of the loop, taken in turn after one warm run of each."""
    runs = {"flowkit": in_calls(method, cores)}
    if method in LOOPS:
        runs["cv2 loop"] = LOOPS[method]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, work in runs.items():
            row = timed(work, greys)
            if repeat:
                rows[name].append(row)
    return {
        name: {
            "pairs_per_second": [speed for speed, _ in row],
            "cpu_ms_per_pair": [cpu for _, cpu in row],
            "median_pairs_per_second": statistics.median(speed for speed, _ in row),
            "median_cpu_ms_per_pair": statistics.median(cpu for _, cpu in row),
        }
        for name, row in rows.items()
    }


def measure_accuracy(method: str, folder: Path) -> dict[str, float]:
    """Return the AEE of each pair, px."""
    found = {}
    for name in PAIRS:
        pair = read_pair(folder / name)
        flow = flow_method(method).load().flow_batch(np.stack([pair.I0, pair.I1]), np.array([[0, 1]]))
        found[name] = average_end_point_error(flow[0], pair.true)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    data = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    cores = len(os.sched_getaffinity(0))
    greys = read_greys(data / "videos" / "misc" / "demo_demo.mp4", args.frames)
    methods: dict[str, JsonObject] = {}
    for method in (*LOOPS, *TVL1):
        methods[method] = {
            "speed": measure_speed(method, greys, cores, args.repeats),
            "aee_px": measure_accuracy(method, data / "flow_gt"),
        }
        print(method, json.dumps(methods[method]))
    result = {
        "question": "methods beside TV-L1: pairs/s against a plain loop over cv2, and accuracy",
        "opencv": cv2.__version__,
        "frames": list(greys.shape),
        "methods": methods,
    }
    print(write_result("methods", result))


if __name__ == "__main__":
    main()
