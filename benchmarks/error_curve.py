"""The curve of error against time: sets of TV-L1 parameters, and what OpenCV has, in one plot.

Run from the checkout: ``python -m benchmarks.error_curve [--rounds 7] [--sets FILE] [--only-sets]``.
Across: ms a pair on one core, on pairs of real clips at a short side of 256 px; up: AEE relative to
OpenCV's TV-L1 at its defaults, geometric mean of five Middlebury pairs. FILE is JSON, {"name": {"preset":
"fast", "iterations": 20, ...}, ...}: sets to be plotted beside (or with --only-sets, instead of) those of
this module. Needs FLOWKIT_TEST_DATA (default ../shared/data). Writes error-curve-<date>.json and .svg to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import figure
from benchmarks.methods_table import CLIPS, CV2, Method, measure, methods, middlebury, real_pairs
from benchmarks.record import JsonObject, write_result
from benchmarks.scatter_svg import Point, scatter
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import FIRST_PRESETS, PRESETS, TVL1Params

CLIPS_SET, TRUTH_SET = "clips", "Middlebury"
PRESET, EARLIER, VARIANT, OTHER = "presets", "presets of d8d966e", "variants", "OpenCV"

EARLIER_SETS = {f"{name}, d8d966e": params for name, params in FIRST_PRESETS.items()}

# Edge weights, five taps and the weighted median only where the flow varies.
_MODEL = TVL1Params(
    nscales=100,
    scale_step=0.75,
    warps=2,
    iterations=20,
    epsilon=0.013,
    lambda_=0.2,
    bicubic_a=-0.75,
    border="off",
    gradient_taps=5,
    dual="projected",
    edge_alpha=3.0,
    weighted_median=5,
    weighted_median_after="level",
    weighted_median_spread=0.2,
)
_FULL = dataclasses.replace(
    _MODEL, weighted_median=7, weighted_median_after="warp", weighted_median_spread=0.0
)
VARIANT_SETS = {
    "20 it": _MODEL,
    "10 it": dataclasses.replace(_MODEL, iterations=10),
    "10 it, dual from coarser": dataclasses.replace(_MODEL, iterations=10, dual_start="coarser"),
    "10 it, 1 warp": dataclasses.replace(_MODEL, iterations=10, warps=1),
    "20 it, no median": dataclasses.replace(_MODEL, weighted_median=0),
    "10 it, 7x7 everywhere": dataclasses.replace(_FULL, iterations=10),
    "30 it, 5 warps, .8, 7x7": dataclasses.replace(_FULL, iterations=30, warps=5, scale_step=0.8),
}
"""Named by what differs from `_MODEL`."""


def read_sets(path: Path) -> dict[str, TVL1Params]:
    """Return the sets of a file: a preset's name and the values that replace its own."""
    sets = json.loads(path.read_text())
    return {
        name: dataclasses.replace(PRESETS[values.pop("preset")], **values) for name, values in sets.items()
    }


def grouped(more: Mapping[str, TVL1Params], *, only: bool) -> dict[str, dict[str, TVL1Params]]:
    """Return the sets to plot by group."""
    if only:
        return {VARIANT: dict(more)}
    return {PRESET: dict(PRESETS), EARLIER: EARLIER_SETS, VARIANT: VARIANT_SETS | dict(more)}


def solver_method(params: TVL1Params) -> Method:
    solver = cpu.load(params)
    return Method(solve=lambda frames: solver.flow_batch(frames, [[0, 1]])[0])


def points(report: JsonObject) -> list[Point]:
    """Return a point a row: median ms a pair on the clips, mean error relative to OpenCV's TV-L1."""
    rows = report["sets"][CLIPS_SET]["cases"]
    return [
        Point(
            name=name,
            x=1e3 * rows[name]["cpu_s"]["median"],
            y=error["geometric_mean"],
            group=report["groups"].get(name, OTHER),
        )
        for name, error in report["relative_aee"].items()
    ]


def plot(report: JsonObject) -> str:
    """Return the plot of a report, SVG."""
    return scatter(
        points(report),
        title="TV-L1: error against time, one core",
        x_label="CPU ms a pair, real clips at a short side of 256 px",
        y_label="AEE relative to OpenCV's TV-L1, mean of five pairs",
        joined=(PRESET, EARLIER, VARIANT),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=len(CLIPS), help="of the real ones, the first")
    parser.add_argument("--sets", type=Path, metavar="FILE")
    parser.add_argument("--only-sets", action="store_true", help="those of FILE alone, beside OpenCV's")
    options = parser.parse_args()
    more = read_sets(options.sets) if options.sets else {}
    sets = grouped(more, only=options.only_sets)
    chosen = {name: each for name, each in methods().items() if name == CV2 or name[:3] in ("DIS", "Far")}
    groups: dict[str, str] = {}
    for group, named in sets.items():
        chosen |= {name: solver_method(params) for name, params in named.items()}
        groups |= dict.fromkeys(named, group)
    pairs = {TRUTH_SET: middlebury(), CLIPS_SET: real_pairs(CLIPS[: options.clips])}
    report = measure(chosen, pairs, rounds=options.rounds, slow_rounds=1)
    report["params"] = {
        name: dataclasses.asdict(params) for named in sets.values() for name, params in named.items()
    }
    report["groups"] = groups
    target = write_result("error-curve", report)
    target.with_suffix(".svg").write_text(plot(report))
    found = points(report)
    for point in sorted(found, key=lambda each: each.x):
        worst = report["relative_aee"][point.name]["worst"]
        print(f"{point.name:28} {figure(point.x):>7} ms  {figure(point.y):>6} {figure(worst):>6}")
    print(f"written to {target} and .svg")


if __name__ == "__main__":
    main()
