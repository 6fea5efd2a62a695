"""Still content, where OpenCV's TV-L1 stops after an iteration or two: flowkit against it, pair by pair.

Run from the checkout: ``python -m benchmarks.still_pairs [--rounds 5]``. Kinds of pairs: one frame twice;
the same with independent noise of 2 grey levels in each (a camera on a tripod); neighbours of a nearly
static clip, and those of a surveillance clip in which least moves. Presets `opencv-cpu`, which has
OpenCV's parameters, and the default, on one core. Needs FLOWKIT_TEST_DATA (default ../shared/data).
Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.accuracy import ALL_PAIRS
from benchmarks.bench_tvl1 import cv2_tvl1, engine
from benchmarks.harness import run, shown
from benchmarks.methods_table import CLIPS, CV2, Method, cases, data_folder, middlebury
from benchmarks.record import JsonObject, write_result
from benchmarks.tvl1_pairs import GREY, Clip, Pair, clip_pairs
from flowkit.tvl1.params import DEFAULT_PRESET

NOISE_GREY = 2.0
STATIC = Clip(file="videos/decord/corrupted.mp4", pairs=3, short_side=256)
SURVEILLANCE = dataclasses.replace(CLIPS[0], pairs=20)
STILLEST = 3
SEED = 5


def noisy(frames: GREY, seed: int) -> GREY:
    """Return two frames with independent noise, uint8."""
    noise = np.random.default_rng(seed).normal(0, NOISE_GREY, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def still(pairs: Sequence[Pair], *, noise: bool) -> list[Pair]:
    """Return pairs of each first frame with itself, equal or each with noise of its own."""
    made = []
    for k, pair in enumerate(pairs):
        twice = np.stack([pair.frames[0], pair.frames[0]])
        made.append(Pair(name=pair.name, frames=noisy(twice, SEED + k) if noise else twice))
    return made


def change(pair: Pair) -> float:
    """Return the mean difference of a pair's frames, grey levels."""
    return float(np.abs(pair.frames[1].astype(np.int16) - pair.frames[0]).mean())


def kinds() -> dict[str, list[Pair]]:
    """Return the pairs by kind."""
    photographs = middlebury()[:2]
    moving = [pair for pair in clip_pairs(data_folder(), SURVEILLANCE) if change(pair) > 0]
    return {
        f"equal frames ({', '.join(ALL_PAIRS[:2])})": still(photographs, noise=False),
        "the same with noise": still(photographs, noise=True),
        "nearly static clip": clip_pairs(data_folder(), STATIC),
        "surveillance clip, its stillest pairs": sorted(moving, key=change)[:STILLEST],
    }


def measure(sets: Mapping[str, Sequence[Pair]], *, rounds: int) -> JsonObject:
    """Time OpenCV's TV-L1 and the two presets on each kind."""
    chosen = {CV2: Method(solve=cv2_tvl1(cuda_like=False))}
    chosen |= {f"flowkit {name}": Method(solve=engine(name)) for name in ("opencv-cpu", DEFAULT_PRESET)}
    report: JsonObject = {"sets": {}}
    for kind, pairs in sets.items():
        section = run(
            f"ms a pair, {kind}", cases(chosen, pairs, slow_rounds=rounds), rounds=rounds, rival=CV2
        )
        section["pairs"] = [
            {"name": pair.name, "size": pair.frames.shape[1:], "mean_change_grey": change(pair)}
            for pair in pairs
        ]
        report["sets"][kind] = section
    return report


def markdown(report: JsonObject) -> str:
    """Return a row a kind: ms a pair of OpenCV's, and each preset's with its time over OpenCV's."""
    names = list(next(iter(report["sets"].values()))["cases"])
    heads = [f"{name}, ms" if name == CV2 else f"{name}, ms | over OpenCV's" for name in names]
    lines = [f"| | {' | '.join(heads)} |", f"|{'---|' * (2 * len(names))}"]
    for kind, section in report["sets"].items():
        words = [kind]
        for row in section["cases"].values():
            words.append(shown(row["cpu_s"], scale=1e3))
            words += [shown(ratio["cpu"]) for ratio in row["ratio to"].values()]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = measure(kinds(), rounds=options.rounds)
    print(markdown(report))
    print(f"written to {write_result('still-pairs', report)}")


if __name__ == "__main__":
    main()
