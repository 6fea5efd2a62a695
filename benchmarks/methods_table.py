"""Every method that a CPU can run, side by side: ms a pair on one core, error on five Middlebury pairs.

Run from the checkout: ``python -m benchmarks.methods_table [--rounds 7] [--slow-rounds 2]``. OpenCV's DIS,
Farneback and DualTVL1, scikit-image's TV-L1 (pip install scikit-image; without it its row is absent) and
flowkit's presets, each with its own defaults and one thread, on the Middlebury pairs and on pairs of real
surveillance clips at a short side of 256 px. DualTVL1 and scikit-image take seconds a pair: they take part
in the first rounds alone. Needs FLOWKIT_TEST_DATA (default ../shared/data). Writes one JSON file to
benchmarks/results and prints the table of docs/benchmarks.md. A quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import ALL_PAIRS, average_end_point_error
from benchmarks.bench_methods import CV2_PRESETS
from benchmarks.bench_tvl1 import Solve, cv2_tvl1, engine, planar
from benchmarks.harness import Case, figure, run, shown
from benchmarks.record import ROOT, JsonObject, write_result
from benchmarks.tvl1_pairs import FLOW, GREY, Clip, Pair, clip_pairs, ground_truth_pair
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS

CV2 = "OpenCV TV-L1"
SKIMAGE = "scikit-image TV-L1"
BESIDE = ("to OpenCV's: mean", "without Urban2", "worst")
RIVALS = (CV2, "DIS medium", "DIS fast")
LARGE_MOTION = "Urban2"
"""Its motion of 22 px is more than OpenCV's TV-L1 follows: alone it sets the mean over the pairs."""

FARNEBACK_SAMPLES = (0.5, 3, 15, 3, 5, 1.2, 0)

CLIPS = tuple(
    Clip(file=f"labelled/fight/videos/{name}.mp4", pairs=2, short_side=256)
    for name in ("fight/fi001", "fight/fi013", "fight/fi051", "fight/fi077", "fight/fi099", "noFight/nofi063")
)
"""480x360, 640x360, 1280x720, 1920x1080, 640x314 and 704x480 px, all of them reduced."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method, and whether it takes seconds a pair."""

    solve: Solve
    slow: bool = False


def dis(preset: str) -> Solve:
    solver = cv2.DISOpticalFlow.create(CV2_PRESETS[preset])
    return lambda frames: planar(solver.calc(frames[0], frames[1], None))  # type: ignore[call-overload]


def farneback(frames: GREY) -> FLOW:
    return planar(
        cv2.calcOpticalFlowFarneback(frames[0], frames[1], None, *FARNEBACK_SAMPLES)  # type: ignore[call-overload]
    )


def scikit_image() -> Solve | None:
    """Return scikit-image's TV-L1 at its defaults, or None where it is not installed."""
    try:
        registration = importlib.import_module("skimage.registration")
    except ModuleNotFoundError:
        return None

    def solve(frames: GREY) -> FLOW:
        first, second = frames.astype(np.float32) / np.float32(255)
        down_right = registration.optical_flow_tvl1(first, second)  # v, then u
        return np.ascontiguousarray(down_right[::-1], np.float32)

    return solve


def methods() -> dict[str, Method]:
    """Return every method by its name in the table."""
    found = {f"DIS {preset}": Method(solve=dis(preset)) for preset in CV2_PRESETS}
    found["Farneback"] = Method(solve=farneback)
    found[CV2] = Method(solve=cv2_tvl1(cuda_like=False), slow=True)
    if (solve := scikit_image()) is not None:
        found[SKIMAGE] = Method(solve=solve, slow=True)
    return found | {f"flowkit {preset}": Method(solve=engine(preset)) for preset in PRESETS}


def data_folder() -> Path:
    return Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))


def middlebury() -> list[Pair]:
    return [ground_truth_pair(data_folder() / "flow_gt" / name) for name in ALL_PAIRS]


def real_pairs(clips: Iterable[Clip] = CLIPS) -> list[Pair]:
    return [
        dataclasses.replace(pair, name=f"{Path(clip.file).stem} {pair.name}")
        for clip in clips
        for pair in clip_pairs(data_folder(), clip)
    ]


def errors(pairs: Sequence[Pair]) -> Callable[[Sequence[FLOW]], JsonObject]:
    """Return the accuracy of a case: AEE by pair, px, of those whose flow is known."""

    def accuracy(flows: Sequence[FLOW]) -> JsonObject:
        both = zip(pairs, flows, strict=True)
        return {
            "aee_px": {
                pair.name: average_end_point_error(flow, pair.true)
                for pair, flow in both
                if pair.true is not None
            }
        }

    return accuracy


def cases(chosen: Mapping[str, Method], pairs: Sequence[Pair], *, slow_rounds: int) -> list[Case]:
    """Return a case a method: all pairs, one after the other; a unit is a pair."""

    def work(solve: Solve) -> Callable[[], list[FLOW]]:
        return lambda: [solve(pair.frames) for pair in pairs]

    known = any(pair.true is not None for pair in pairs)
    return [
        Case(
            name=name,
            work=work(method.solve),
            units=len(pairs),
            rounds=slow_rounds if method.slow else None,
            accuracy=errors(pairs) if known else None,
            warm_up=functools.partial(method.solve, pairs[0].frames),
        )
        for name, method in chosen.items()
    ]


def relative_errors(rows: Mapping[str, JsonObject], rival: str = CV2) -> dict[str, dict[str, float]]:
    """Return AEE over the rival's by method: geometric mean of the pairs, that of small motion, the worst."""
    theirs = rows[rival]["aee_px"]
    found = {}
    for name, row in rows.items():
        ratios = {pair: row["aee_px"][pair] / theirs[pair] for pair in theirs}
        found[name] = {"geometric_mean": statistics.geometric_mean(ratios.values())}
        others = [ratio for pair, ratio in ratios.items() if pair != LARGE_MOTION]
        found[name][f"geometric_mean_without_{LARGE_MOTION}"] = statistics.geometric_mean(others)
        found[name]["worst"] = max(ratios.values())
    return found


def measure(
    chosen: Mapping[str, Method], sets: Mapping[str, Sequence[Pair]], *, rounds: int, slow_rounds: int
) -> JsonObject:
    """Time the methods on each set of pairs; return the sections, and the errors relative to `CV2`."""
    report: JsonObject = {"slow_rounds": slow_rounds, "sets": {}, "relative_aee": {}}
    rivals = [name for name in RIVALS if name in chosen]
    for name, pairs in sets.items():
        section = run(
            f"ms a pair on one core, {name}",
            cases(chosen, pairs, slow_rounds=slow_rounds),
            rounds=rounds,
            rival=rivals,
            on_round=lambda number, name=name: print(f"{name}: round {number + 1}", flush=True),  # type: ignore[misc]
        )
        section["pairs"] = [[pair.name, *pair.frames.shape[1:]] for pair in pairs]
        report["sets"][name] = section
        if CV2 in chosen and pairs[0].true is not None:
            report["relative_aee"] = relative_errors(section["cases"])
    return report


def markdown(report: JsonObject) -> str:
    """Return the table of a report: medians with quartiles, errors to three digits."""
    sets, relative = report["sets"], report["relative_aee"]
    accurate = next(section for section in sets.values() if "aee_px" in next(iter(section["cases"].values())))
    names = list(next(iter(accurate["cases"].values()))["aee_px"])
    head = ["", *(f"ms a pair, {name}" for name in sets), *names, *BESIDE]
    lines = [head, ["---"] * len(head)]
    for method, row in accurate["cases"].items():
        times = [shown(section["cases"][method]["cpu_s"], scale=1e3) for section in sets.values()]
        error = [figure(row["aee_px"][name]) for name in names]
        beside = [figure(value) for value in relative.get(method, {}).values()]
        lines.append([method, *times, *error, *beside])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=len(CLIPS), help="of the real ones, the first")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the methods")
    options = parser.parse_args()
    chosen = {name: each for name, each in methods().items() if not options.only or name in options.only}
    report = measure(
        chosen,
        {"Middlebury": middlebury(), "clips": real_pairs(CLIPS[: options.clips])},
        rounds=options.rounds,
        slow_rounds=options.slow_rounds,
    )
    report["instruction_set"] = cpu.instruction_sets()[0]
    print(markdown(report))
    print(f"written to {write_result('methods-table', report)}")


if __name__ == "__main__":
    main()
