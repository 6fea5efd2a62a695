"""The controlled sets that the gate is measured on: fixed here, before anything is trained.

    python -m benchmarks.gate_sets DIR [NAME ...] [--jobs N]

makes DIR/NAME/videos, extracts them to DIR/NAME/store.h5 with the defaults of `flowkit extract`, and
writes the split `main` beside the store: its last groups are the test list, and no choice is
made on those. Complete sets are left as they are. Settings were tried out on sets of other seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flowkit.datasets import Split, check_split, groups_by_pattern, list_splits, write_split
from flowkit.errors import FlowkitError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import find_sources
from flowkit.store.read.store import open_store
from flowkit.synth import SynthConfig, make_dataset
from flowkit.tvl1.params import resolve_params

SPLIT = "main"
HELD_OUT = "held-out"
GROUP = r"_g(\d+)_c\d+"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateSet:
    """A set and the division of its groups.

    Parameters
    ----------
    config
        Of the videos.
    train, test
        Groups of the two lists: the first ones, the last ones.
    purpose
        The question that it answers.

    The groups between them are the subset `held-out`: clips that neither list has.
    """

    config: SynthConfig
    train: int
    test: int
    purpose: str

    def subset(self, group: int) -> str:
        """Return the subset of a group, counted from 1."""
        if group <= self.train:
            return "train"
        return "test" if group > self.config.groups - self.test else HELD_OUT


SETS: Final[Mapping[str, GateSet]] = {
    "conflict": GateSet(
        config=SynthConfig(clips=500, classes=8, reliability="conflict", cue="cross", groups=20, seed=5_001),
        train=15,
        test=5,
        purpose="a stream is confidently wrong, and the other one's images show it: gating must win",
    ),
    "noise": GateSet(
        config=SynthConfig(clips=500, classes=8, reliability="noise", groups=20, seed=5_002),
        train=15,
        test=5,
        purpose="a stream sees no class; trained on it, its scores are flat: little to win",
    ),
    # Added once `noise` had shown that its streams leave nothing to win (oracle 99.4 %, average 99.2 %).
    "noise-few": GateSet(
        config=SynthConfig(clips=240, classes=8, reliability="noise", groups=20, seed=5_007),
        train=8,
        test=12,
        purpose="as noise, with few clips to learn from: streams that err",
    ),
    "clean": GateSet(
        config=SynthConfig(clips=500, classes=8, groups=20, seed=5_003),
        train=15,
        test=5,
        purpose="negative control: both streams are right, gating must do no harm",
    ),
    "complementary": GateSet(
        config=SynthConfig(clips=250, classes=4, classes_from="product", groups=20, seed=5_004),
        train=15,
        test=5,
        purpose="negative control: the label is appearance times motion, both streams always count",
    ),
    "conflict-without-cue": GateSet(
        config=SynthConfig(clips=500, classes=8, reliability="conflict", groups=20, seed=5_005),
        train=15,
        test=5,
        purpose="a stream is wrong and nothing shows it: the gate cannot know",
    ),
    "overfit": GateSet(
        config=SynthConfig(clips=200, classes=8, reliability="conflict", cue="cross", groups=20, seed=5_006),
        train=5,
        test=10,
        purpose="few clips, many epochs: which clips may the gate learn from? `held-out` are others",
    ),
}


def make_set(folder: Path, chosen: GateSet, *, jobs: int) -> Path:
    """Make one set in `folder`, or resume making it; return its store."""
    videos, store = folder / "videos", folder / "store.h5"
    if SPLIT in list_splits(store):
        return store
    if not (videos / "index.csv").exists():
        # The index is written last: a folder without it is incomplete.
        shutil.rmtree(videos, ignore_errors=True)
        make_dataset(videos, chosen.config, jobs=jobs)
    # The preset of the committed results, whatever the default is.
    config = ExtractConfig(params=resolve_params("opencv-cuda"), jobs=jobs)
    report = extract(find_sources([videos]), store, config=config)
    if report.failures:
        raise FlowkitError(f"{len(report.failures)} clips of {videos} were not stored: {report.failures[0]}")
    with open_store(store) as opened:
        labels = {video_id: opened[video_id].label for video_id in opened}
    groups = groups_by_pattern(labels, GROUP)
    parts = {video_id: chosen.subset(int(group)) for video_id, group in groups.items()}
    split = Split(name=SPLIT, kind="subset", parts=parts, groups=groups)
    check_split(split, labels)
    write_split(store, split)
    return store


def main() -> None:
    """Make the sets that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    if unknown := set(given.names) - set(SETS):
        parser.error(f"no such set: {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    for name in given.names or SETS:
        print(f"{name}: {SETS[name].purpose}", flush=True)
        print(make_set(given.folder / name, SETS[name], jobs=given.jobs), flush=True)


if __name__ == "__main__":
    main()
