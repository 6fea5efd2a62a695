"""Real clips to accuracy: every fusion on labelled surveillance clips and gestures, by the default training.

    python -m benchmarks.real_sets [--sets fight weizmann4] [--seeds 5] [--store fight=clips.h5]

`fight`: 150 surveillance clips, fight or not, 5 folds, the clips of one source on one side. `weizmann4`: four
actions, one subject left out at a time. A store that is not given is extracted with the defaults into a
temporary folder; its features are kept beside it. Needs FLOWKIT_TEST_DATA (default ../shared/data) and the
extra `train`. Writes one JSON file to benchmarks/results: top-1 of each fusion with its interval over seed
and clip, what validation chose, and the seconds of features and of the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

import flowkit
from benchmarks.record import ROOT, JsonObject, write_result
from flowkit.datasets import Split, k_fold, leave_one_out
from flowkit.datasets.split_sources import groups_from_csv
from flowkit.store.read.store import Store
from gating.config import BASELINE, CHOSEN, Preset
from gating.evaluation.results import RunResults
from gating.events import Event
from gating.run import RunOptions, train
from gating.train_config import train_preset

DATA = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data")) / "labelled"
FOLDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RealSet:
    """A labelled set: its folder, and the column of its index that clips may not share across sides."""

    folder: str
    group: str
    folds: int | None = None

    @property
    def index(self) -> Path:
        """The table of its clips."""
        return DATA / self.folder / "index.csv"

    def split(self, store: Store) -> Split:
        """Return the folds of its groups, or one of each group."""
        labels = dict(zip(store, store.column("label"), strict=True))
        groups = groups_from_csv(self.index, labels, column=self.group)
        return leave_one_out(groups) if self.folds is None else k_fold(labels, self.folds, groups=groups)


SETS = {
    "fight": RealSet(folder="fight", group="source", folds=FOLDS),
    "weizmann4": RealSet(folder="weizmann4", group="subject"),
}


def main() -> None:
    """Train on every set and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", default="frozen")
    parser.add_argument("--store", nargs="*", default=[], metavar="SET=PATH")
    parser.add_argument("--name", default="real-sets", help="of the result")
    options = parser.parse_args()
    stores = dict(one.split("=", 1) for one in options.store)
    found = {name: measured(name, stores, options.seeds, options.preset) for name in options.sets}
    print(write_result(options.name, {"seeds": options.seeds, "preset": options.preset, "sets": found}))


def measured(name: str, stores: Mapping[str, str], seeds: int, preset: Preset) -> JsonObject:
    """Train on one set with every seed; return its table and times."""
    own = SETS[name]
    with _store(own, stores.get(name)) as store, tempfile.TemporaryDirectory() as out:
        done: list[tuple[str, float]] = []

        def note(event: Event) -> None:
            if event["event"] == "judged" or (
                event["event"] == "features" and event["done"] == event["clips"]
            ):
                done.append((event["event"], time.monotonic()))

        began = time.monotonic()
        run = RunOptions(out=Path(out), seeds=tuple(range(seeds)), device="cpu", on_event=note)
        results = train(store, [own.split(store)], train_preset(preset), run)
        assert results is not None
        features = sum(at - began for kind, at in done[:1] if kind == "features")
        trials = [at for kind, at in done if kind == "judged"]
        return {
            "clips": len(store),
            "tvl1_preset": store.options.fields[0].tvl1_preset,
            "flow_codec": store.options.flow_codec,
            **table(results),
            "seconds": {
                "features": round(features, 1),
                "a_trial_after": round(float(np.median(np.diff(trials))), 1),
                "all": round(trials[-1] - began, 1),
            },
        }


def table(results: RunResults) -> JsonObject:
    """Return the fusions' top-1, the chosen one's, and the gate's gain over the best fixed weights."""
    rows = {name: {"top1": row.top1, "interval": row.interval} for name, row in results.fusions.items()}
    gain = next(one for one in results.gains if one.baseline == BASELINE)
    return {
        "chosen_top1": results.fusions[CHOSEN].top1,
        "gate_chosen": float(np.mean([one.prefers_gate for one in results.trials])),
        "gating_minus_search": {"mean": gain.mean, "interval": gain.interval},
        "fusions": rows,
    }


@contextlib.contextmanager
def _store(own: RealSet, given: str | None) -> Iterator[Store]:
    """Open the store that is given, or extract the set."""
    with contextlib.ExitStack() as stack:
        path = Path(given) if given else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clips.h5"
        if not given:
            flowkit.extract([DATA / own.folder / "videos"], path)
        yield stack.enter_context(flowkit.open(path))


if __name__ == "__main__":
    main()
