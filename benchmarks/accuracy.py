"""Measure the accuracy of each TV-L1 setting, and the cost of testing the stopping rule seldom.

Run from the checkout: ``python -m benchmarks.accuracy``. It reads the Middlebury pairs
RubberWhale and Venus under ``flow_gt`` of FLOWKIT_TEST_DATA (default: ../shared/data) and
writes one JSON file to benchmarks/results. Two minutes on one core. With ``--presets`` it is
every preset on the CPU engine, on all five pairs, relative to cv2's defaults: half a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.record import ROOT, JsonObject, write_result
from flowkit.tvl1 import cpu
from flowkit.tvl1.opencv import OpenCVSolver
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow

PAIRS = ("RubberWhale", "Venus")
ALL_PAIRS = (*PAIRS, "Grove2", "Hydrangea", "Urban2")
UNKNOWN_PX = 1e9
"""Middlebury marks pixels without known flow by larger values."""

# What a published figure was measured with: cv2's defaults, and its CUDA-like call.
CV2_SETTINGS = {"cv2 default": PRESETS["opencv-cpu"], "cv2 CUDA-like": PRESETS["opencv-cuda"]}

Flow = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two grey frames, uint8 (H, W), and their true flow, float32 (2, H, W), NaN where unknown."""

    I0: NDArray[np.uint8]
    I1: NDArray[np.uint8]
    true: Flow


def read_grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"no image {path}: set FLOWKIT_TEST_DATA to the folder that has flow_gt")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def read_pair(folder: Path) -> Pair:
    first, second = (read_grey(folder / name) for name in ("frame10.png", "frame11.png"))
    height, width = first.shape
    values = np.frombuffer((folder / "flow10.flo").read_bytes(), "<f4", offset=12)
    true = values.reshape(height, width, 2).transpose(2, 0, 1)
    return Pair(I0=first, I1=second, true=np.where(np.abs(true) > UNKNOWN_PX, np.float32(np.nan), true))


def average_end_point_error(flow: NDArray[np.floating], true: Flow) -> float:
    """Return the mean length of the error over the known pixels, px."""
    return float(np.nanmean(np.hypot(*(flow - true))))


def i8_codes(flow: Flow) -> NDArray[np.int8]:
    """Return the store's 8-bit codes: scale 2^k / 8 with the least k >= 0 that clips nothing."""
    largest = float(np.abs(flow).max())
    k = max(0, math.ceil(math.log2(largest * 8 / 127))) if largest else 0
    codes: NDArray[np.int8] = np.rint(flow / np.float32(2.0**k / 8)).astype(np.int8)
    return codes


def measure_twin(pair: Pair, params: TVL1Params) -> tuple[Flow, dict[str, float]]:
    start = time.perf_counter()
    result = tvl1_flow(pair.I0, pair.I1, params=params)
    row = {
        "aee_px": average_end_point_error(result.flow, pair.true),
        "iterations": result.trace.iterations,
        "seconds": time.perf_counter() - start,
    }
    return result.flow.astype(np.float32), row


def measure_cv2(pair: Pair, params: TVL1Params) -> dict[str, float]:
    start = time.perf_counter()
    flow = OpenCVSolver(params=params).flow_batch(np.stack([pair.I0, pair.I1]), np.array([[0, 1]]))[0]
    return {"aee_px": average_end_point_error(flow, pair.true), "seconds": time.perf_counter() - start}


def compare_check_every(
    pair: Pair, params: TVL1Params, *, seldom: Flow, seldom_row: Mapping[str, float]
) -> dict[str, float]:
    """Compare testing each iteration with the flow that `params.check_every` gave."""
    often, row = measure_twin(pair, dataclasses.replace(params, check_every=1))
    difference = np.abs(seldom - often)
    return {
        "aee_px_every_1": row["aee_px"],
        f"aee_px_every_{params.check_every}": seldom_row["aee_px"],
        "iterations_every_1": row["iterations"],
        f"iterations_every_{params.check_every}": seldom_row["iterations"],
        "mean_abs_difference_px": float(difference.mean()),
        "max_abs_difference_px": float(difference.max()),
        "share_of_pixels_over_1_px": float(np.mean(difference.max(axis=0) > 1)),
        "share_of_i8_codes_changed": float(np.mean(i8_codes(seldom) != i8_codes(often))),
    }


def measure_pair(pair: Pair) -> JsonObject:
    """Measure every preset of the twin, cv2's two settings, and the effect of check_every."""
    found: JsonObject = {"twin": {}, "cv2": {}, "check_every": {}}
    for name, params in PRESETS.items():
        flow, row = measure_twin(pair, params)
        found["twin"][name] = row
        if name in ("opencv-cpu", "opencv-cuda"):
            found["check_every"][name] = compare_check_every(pair, params, seldom=flow, seldom_row=row)
    for name, params in CV2_SETTINGS.items():
        found["cv2"][name] = measure_cv2(pair, params)
    found["opencv-cpu twin / cv2 default"] = (
        found["twin"]["opencv-cpu"]["aee_px"] / found["cv2"]["cv2 default"]["aee_px"]
    )
    return found


def measure_presets(pairs: Mapping[str, Pair]) -> JsonObject:
    """Measure every preset on the CPU engine: AEE by pair, and relative to cv2's defaults."""
    rival = {name: measure_cv2(pair, CV2_SETTINGS["cv2 default"])["aee_px"] for name, pair in pairs.items()}
    found: JsonObject = {"cv2 default": {"aee_px": rival}}
    for preset, params in PRESETS.items():
        solver = cpu.load(params)
        error = {
            name: average_end_point_error(
                solver.flow_batch(np.stack([pair.I0, pair.I1]), np.array([[0, 1]]))[0], pair.true
            )
            for name, pair in pairs.items()
        }
        ratios = [error[name] / rival[name] for name in pairs]
        found[preset] = {
            "aee_px": error,
            "geometric_mean": statistics.geometric_mean(ratios),
            "worst": max(ratios),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", action="store_true", help="the CPU engine on all five pairs")
    options = parser.parse_args()
    data = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data")) / "flow_gt"
    if options.presets:
        report: JsonObject = measure_presets({name: read_pair(data / name) for name in ALL_PAIRS})
        target = write_result("accuracy-presets", report)
    else:
        report = {"pairs": {name: measure_pair(read_pair(data / name)) for name in PAIRS}}
        target = write_result("accuracy", report)
    print(json.dumps(report, indent=1))
    print(f"written to {target}")


if __name__ == "__main__":
    main()
