"""Two checkouts against each other: the store that they write and, interleaved A B B A, their speed.

    python -m benchmarks.bench_checkouts --base CHECKOUT [--new CHECKOUT] [--rounds 9] [--save NAME]

Each checkout runs in its own environment (CHECKOUT/.venv). Times are user + system seconds of all
processes of a task, which other load on the machine disturbs least, and wall seconds beside them;
ratios are new / base of neighbouring runs, and their median is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from benchmarks.record import ROOT, JsonObject, write_result

# Reads as a training loop does: 3 segments of 5 fields and a frame, of every clip, some epochs.
_READ = """
import sys
from flowkit.datasets import ClipSamples
from flowkit.datasets import Sampling
samples = ClipSamples(sys.argv[1], sampling=Sampling(segments=3, stack=5), training=True)
for epoch in range(int(sys.argv[2])):
    for batch in samples.batches(8, epoch=epoch):
        pass
"""
_OPEN = """
import sys
import flowkit
for _ in range(int(sys.argv[2])):
    with flowkit.open(sys.argv[1]) as store:
        store[next(iter(store))].flow(0, 1)
"""
_MADE = (
    "--clips",
    "20",
    "--classes",
    "4",
    "--frames",
    "30",
    "--groups",
    "5",
    "--width",
    "128",
    "--height",
    "96",
)
_QUICK = ("--rgb-epochs", "2", "--flow-epochs", "2", "--gate-epochs", "1", "--test-segments", "3")


class Checkout:
    """One checkout: its commands, timed in a folder of its own."""

    def __init__(self, root: Path, videos: Path, folder: Path) -> None:
        self.root, self._videos, self._folder = root.resolve(), videos, folder
        self._bin = self.root / ".venv" / "bin"
        folder.mkdir()

    def extract(self) -> tuple[float, float]:
        """Extract all videos anew."""
        for path in self._folder.glob("out.h5*"):
            path.unlink()
        return self._timed("flowkit", "extract", str(self._videos), "out.h5", "--jobs", "2", "--quiet")

    def read(self) -> tuple[float, float]:
        """Read segments of the store that was extracted last."""
        return self._timed("python", "-c", _READ, "out.h5", "100")

    def open(self) -> tuple[float, float]:
        """Open the store and read a field of its first clip, again and again."""
        return self._timed("python", "-c", _OPEN, "out.h5", "300")

    def verify(self) -> tuple[float, float]:
        """Verify the store that was extracted last."""
        return self._timed("flowkit", "verify", "out.h5")

    def train(self) -> tuple[float, float]:
        """Train both streams and the gate for a few epochs."""
        subprocess.run(["rm", "-rf", "run"], cwd=self._folder, check=True)
        fold = ("--folds", "5", "--fold", "0", "--threads", "1", "--quiet")
        return self._timed("flowkit", "train", "out.h5", "--preset", "tiny", "--out", "run", *fold, *_QUICK)

    def _timed(self, program: str, *words: str) -> tuple[float, float]:
        """Return CPU and wall seconds of a command and the processes that it waits for."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [str(self._bin / program), *words],
            cwd=self._folder,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            check=True,
            capture_output=True,
        )
        after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu, ended - began


def compared(base: Checkout, new: Checkout, task: str, rounds: int) -> JsonObject:
    """Return the times of a task in both, and the ratios of neighbouring runs."""
    times: dict[str, list[tuple[float, float]]] = {"base": [], "new": []}
    for each in (base, new):
        getattr(each, task)()  # warms the page cache and what is compiled on first use
    for number in range(rounds):
        pair = [("base", base), ("new", new)]
        for name, checkout in pair if number % 2 == 0 else reversed(pair):
            times[name].append(getattr(checkout, task)())
    found: JsonObject = {"rounds": rounds}
    for kind, of in (("cpu", 0), ("wall", 1)):
        mine = {name: [one[of] for one in values] for name, values in times.items()}
        ratios = sorted(new_s / base_s for base_s, new_s in zip(mine["base"], mine["new"], strict=True))
        found[kind] = {
            "base_seconds": round(statistics.median(mine["base"]), 3),
            "new_seconds": round(statistics.median(mine["new"]), 3),
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(one, 4) for one in ratios],
        }
    return found


def store_differences(base: Path, new: Path) -> list[str]:
    """Return the names of datasets and attributes that differ between two stores of the same videos."""
    with h5py.File(base) as one, h5py.File(new) as other:
        return [name for name in _names(one) | _names(other) if not _same(name, one, other)]


def _names(file: h5py.File) -> set[str]:
    found = {f"/@{name}" for name in file.attrs}
    file.visititems(lambda name, item: found.update({f"/{name}", *(f"/{name}@{one}" for one in item.attrs)}))
    return {name for name in found if not name.endswith(("@created", "@uuid"))}


def _same(name: str, one: h5py.File, other: h5py.File) -> bool:
    path, _, attribute = name.partition("@")
    if path not in one or path not in other:
        return False
    items = one[path], other[path]
    if attribute:
        values = [item.attrs.get(attribute) for item in items]
    elif isinstance(items[0], h5py.Dataset):
        if (items[0].dtype, items[0].chunks) != (items[1].dtype, items[1].chunks):
            return False
        values = [item[()] for item in items]
    else:
        return True
    first, second = (np.asarray(value) for value in values)
    if first.dtype.kind == "f":
        return np.array_equal(first, second, equal_nan=True)
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def main() -> None:
    """Print the ratios, and keep them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--new", type=Path, default=ROOT)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", default=["extract", "read", "train"])
    parser.add_argument("--clips", type=int, default=20, help="of each of four classes")
    parser.add_argument("--size", default="128x96", help="of the made clips; 340x256 is TSN's")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME-<date>.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = folder / "videos"
        flowkit = options.base.resolve() / ".venv" / "bin" / "flowkit"
        width, height = options.size.split("x")
        made = (*_MADE, "--clips", str(options.clips), "--width", width, "--height", height)
        subprocess.run([flowkit, "synth", videos, *made], check=True, capture_output=True)
        base = Checkout(options.base, videos, folder / "base")
        new = Checkout(options.new, videos, folder / "new")
        for each in (base, new):
            each.extract()
        differing = store_differences(folder / "base" / "out.h5", folder / "new" / "out.h5")
        found: JsonObject = {"store, datasets and attributes that differ": sorted(differing)}
        found |= {task: compared(base, new, task, options.rounds) for task in options.tasks}
    print(json.dumps(found, indent=1))
    if options.save:
        commits = {
            name: subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for name, root in (("base", options.base), ("new", options.new))
        }
        write_result(options.save, {"commits": commits, "tasks": found})


if __name__ == "__main__":
    main()
