"""Does better flow, or a finer code of it, buy accuracy? Real clips, one choice of the extraction at a time.

    python -m benchmarks.real_set_variants [--set fight] [--seeds 3] [--variants opencv-cuda i16 ...]

Every variant is extracted anew with the options below, and
trained by the default training (benchmarks/real_sets.py has the sets). Writes one JSON file to
benchmarks/results: top-1 of flow alone, of the best fixed weights and of the chosen fusion, and the paired
difference of each to the default's with its interval over seed and clip. Needs FLOWKIT_TEST_DATA and the
extra `train`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import flowkit
from benchmarks.real_sets import DATA, SETS, RealSet
from benchmarks.record import JsonObject, write_result
from flowkit.extraction.config import ExtractConfig
from flowkit.tvl1.params import resolve_params
from gating.config import BASELINE, CHOSEN
from gating.evaluation.comparison import TrialComparison, pooled
from gating.evaluation.results import read_comparisons
from gating.run import RunOptions, train
from gating.statistics import bootstrap_interval, correct_predictions
from gating.train_config import train_preset

DEFAULT = "default"
VARIANTS = {
    DEFAULT: ExtractConfig(),
    "opencv-cuda": ExtractConfig(params=resolve_params("opencv-cuda")),
    "tsn": ExtractConfig(params=resolve_params("tsn")),
    "accurate": ExtractConfig(params=resolve_params("accurate")),
    "i16": ExtractConfig(flow_codec="i16"),
    "jpeg-20": ExtractConfig(flow_codec="jpeg", bound_px=20),
}
ROWS = ("flow", BASELINE, CHOSEN)

Right = Mapping[str, NDArray[np.bool_]]
"""By row, whether each prediction is right, (seeds, clips)."""


def main() -> None:
    """Extract and train every variant, compare each with the default, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="fight")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    names = list(dict.fromkeys([DEFAULT, *options.variants]))
    found, right = {}, {}
    for name in names:
        found[name], right[name] = measured(SETS[options.set], VARIANTS[name], options.seeds)
        found[name]["less_default"] = compared(right[name], right[DEFAULT])
        print(name, found[name], flush=True)
    result = {"set": options.set, "seeds": options.seeds, "variants": found}
    print(write_result(f"real-set-variants-{options.set}", result))


def measured(own: RealSet, config: ExtractConfig, seeds: int) -> tuple[JsonObject, Right]:
    """Extract and train; return times, sizes and accuracies, and what was right."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "clips.h5", Path(folder) / "run"
        began = time.monotonic()
        flowkit.extract([DATA / own.folder / "videos"], path, config=config)
        extracted = time.monotonic() - began
        with flowkit.open(path) as store:
            options = RunOptions(out=out, seeds=tuple(range(seeds)), device="cpu")
            train(store, [own.split(store)], train_preset("frozen"), options)
        right = right_predictions(read_comparisons(out))
        numbers: JsonObject = {
            "extract_s": round(extracted, 1),
            "train_s": round(time.monotonic() - began - extracted, 1),
            "store_bytes": path.stat().st_size,
            "top1": {name: float(one.mean()) for name, one in right.items()},
        }
        return numbers, right


def right_predictions(comparisons: Sequence[TrialComparison]) -> Right:
    """Return what was right of each of `ROWS`; clips in the same order for any run of one split."""
    clips = {
        name: pooled([_with_row(one, name) for one in comparisons])[comparisons[0].split] for name in ROWS
    }
    return {
        name: np.stack([correct_predictions(pool.fused[name], pool.labels) for pool in pools])
        for name, pools in clips.items()
    }


def _with_row(one: TrialComparison, name: str) -> TrialComparison:
    return dataclasses.replace(one, fused={name: one.fused[one.chosen() if name == CHOSEN else name]})


def compared(right: Right, others: Right) -> JsonObject:
    """Return the mean paired difference of each row, and its interval."""
    found: JsonObject = {}
    for name in ROWS:
        interval = bootstrap_interval(right[name].astype(np.float64) - others[name])
        found[name] = {"mean": interval.estimate, "interval": [interval.low, interval.high]}
    return found


if __name__ == "__main__":
    main()
