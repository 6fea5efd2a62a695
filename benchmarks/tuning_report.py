"""Measure the presets `accurate` and `fast` and the effect of each of their values.

    python -m benchmarks.tuning_report accurate|fast [--unseen]

Both parts of `tuning_pairs` under the preset as it is and as the first version had it; the
validation part also under every change listed in `CHANGES`. `--unseen` also measures what nothing was tuned
on: RubberWhale, Venus and the shifted square (FLOWKIT_TEST_DATA, default ../shared/data), and the
CPU time of three real clips against cv2, in turn. One thread; needs scikit-image.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import read_grey, read_pair
from benchmarks.bench_tvl1 import cv2_tvl1, engine
from benchmarks.record import ROOT, JsonObject, write_result
from benchmarks.tuning_pairs import Float32, Part, TuningPair, pairs
from benchmarks.tuning_score import Row, Scorer, summarise
from benchmarks.tvl1_pairs import CLIPS, clip_pairs
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import FIRST_PRESETS, PRESETS

BEFORE = FIRST_PRESETS

_MODEL: list[JsonObject] = [
    {"gradient_taps": 3},
    {"warp_snap": 0.0},
    {"edge_alpha": 0.0},
    {"edge_alpha": 0.0, "dual": "semi-implicit"},
    {"dual_start": "zero"},
    {"weighted_median": 0},
    *({"lambda_": value} for value in (0.12, 0.15, 0.2, 0.25)),
    *({"bicubic_a": value} for value in (-0.5, -0.6)),
    {"check_first": 0},
]
CHANGES: dict[str, list[JsonObject]] = {
    "accurate": [
        *_MODEL,
        {"weighted_median": 5},
        {"weighted_median_after": "level"},
        {"weighted_median_spread": 0.0},
        *({"warps": value} for value in (3, 10)),
        *({"iterations": value} for value in (10, 40)),
    ],
    "fast": [
        *_MODEL,
        {"weighted_median": 7},
        {"weighted_median_after": "warp"},
        *({"weighted_median_spread": value} for value in (0.0, 0.1, 0.2)),
        *({"warps": value} for value in (1, 3)),
        *({"iterations": value} for value in (8, 10, 20, 300)),
        *({"scale_step": value} for value in (0.7, 0.8)),
    ],
}

SHIFTS = {"R2": (2, 0), "R10": (10, 0), "R20": (20, 0), "R40": (40, 0), "R5U5": (5, -5)}
SQUARE = (slice(60, 186), slice(61, 260))
"""Rows and columns of the square in Shift0; its edge is blended over a few px, so not counted."""


def shifted_pair(folder: Path, name: str, shift: tuple[int, int]) -> TuningPair:
    frames = np.stack([read_grey(folder / f"Shift{which}.png") for which in ("0", name)])
    inside = np.zeros(frames.shape[1:], np.uint8)
    inside[SQUARE] = 1
    kernel = np.ones((13, 13), np.uint8)
    edge = cv2.dilate(inside, kernel) != cv2.erode(inside, kernel)
    true: Float32 = np.array(shift, np.float32)[:, None, None] * inside
    return TuningPair(name=f"Shift{name}", band="medium", frames=frames, true=np.where(edge, np.nan, true))


def unseen_pairs(data: Path) -> list[TuningPair]:
    """Return the pairs that no value was chosen on."""
    found = []
    for name in ("RubberWhale", "Venus"):
        pair = read_pair(data / name)
        frames = np.stack([pair.I0, pair.I1])
        found.append(TuningPair(name=name, band="small", frames=frames, true=pair.true))
    return [*found, *(shifted_pair(data / "shift", name, shift) for name, shift in SHIFTS.items())]


def clip_speedups(videos: Path, preset: str, repeats: int) -> dict[str, dict[str, float]]:
    """Return CPU seconds of cv2, the preset and its former values, in turn, medians."""
    before = cpu.load(BEFORE[preset])
    entrants = {
        "cv2": cv2_tvl1(cuda_like=False),
        "before": lambda frames: before.flow_batch(frames, [[0, 1]])[0],
        preset: engine(preset),
    }
    chosen = {
        f"{name} {pair.name}": pair
        for name, clip in list(CLIPS.items())[:3]
        for pair in clip_pairs(videos, clip)[:2]
    }
    found = {}
    for name_of_pair, pair in chosen.items():
        seconds: dict[str, list[float]] = {name: [] for name in entrants}
        for _ in range(repeats):
            for name, solve in entrants.items():
                start = time.thread_time()
                solve(pair.frames)
                seconds[name].append(time.thread_time() - start)
        found[name_of_pair] = {name: statistics.median(values) for name, values in seconds.items()}
    return found


def described(rows: list[Row]) -> JsonObject:
    return {
        "summary": dataclasses.asdict(summarise(rows)),
        "rows": [dataclasses.asdict(row) | {"ratio": row.ratio} for row in rows],
    }


def measure_part(part: Part, preset: str) -> JsonObject:
    """Measure the preset, its former values, cv2's own rule on our engine, and the changes."""
    scorer, params = Scorer(pairs(part)), PRESETS[preset]
    changes = CHANGES[preset] if part == "validation" else []
    entrants = {
        preset: params,
        "before": BEFORE[preset],
        "opencv-cpu": PRESETS["opencv-cpu"],
        **{
            " ".join(f"{name}={value}" for name, value in change.items()): dataclasses.replace(
                params, **change
            )
            for change in changes
        },
    }
    found = {}
    for name, entrant in entrants.items():
        rows = scorer.rows(entrant)
        print(f"{part:10} {name:22} {summarise(rows)}", flush=True)
        found[name] = described(rows)
    return found


def measure_unseen(preset: str, repeats: int) -> JsonObject:
    data = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    scorer = Scorer(unseen_pairs(data / "flow_gt"))
    found = {
        name: [dataclasses.asdict(row) for row in scorer.rows(params)]
        for name, params in ((preset, PRESETS[preset]), ("before", BEFORE[preset]))
    }
    for now, was in zip(found[preset], found["before"], strict=True):
        print(
            f"{now['name']:12} cv2 {now['cv2_aee_px']:.3f} px, {preset} {now['aee_px']:.3f}, "
            f"before {was['aee_px']:.3f}; CPU {now['cpu']:.2f}, {was['cpu']:.2f} of opencv-cpu"
        )
    clips = clip_speedups(data / "videos", preset, repeats)
    for name, seconds in clips.items():
        times = ", ".join(f"{who} {seconds['cv2'] / taken:.1f}x" for who, taken in seconds.items())
        print(f"{name}: {times}")
    return {"pairs": found, "clips_cpu_s": clips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=CHANGES)
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    report: JsonObject = {
        "params": dataclasses.asdict(PRESETS[options.preset]),
        "before": dataclasses.asdict(BEFORE[options.preset]),
    }
    report |= {part: measure_part(part, options.preset) for part in ("validation", "tuning")}
    if options.unseen:
        report["unseen"] = measure_unseen(options.preset, options.repeats)
    print(f"written to {write_result(f'tuning-{options.preset}', report)}")


if __name__ == "__main__":
    main()
