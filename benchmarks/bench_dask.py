"""`flowkit extract --dask local` against the same machine's worker processes: seconds a run.

    python -m benchmarks.bench_dask [--clips 150] [--rounds 3]

Both extract the same real clips with as many workers as there are cores, in turn, from the first import to
the finished store; the cluster's scheduler and workers start within the run. Needs FLOWKIT_TEST_DATA (default
../shared/data) and the extra `dask`. Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import flowkit
from benchmarks.harness import Case, run, shown
from benchmarks.methods_table import data_folder
from benchmarks.record import write_result

PROCESSES, CLUSTER = "--jobs", "--dask local"


def extract(videos: Path, store: Path, *words: str) -> None:
    """Extract by the command line, over nothing."""
    store.unlink(missing_ok=True)
    shutil.rmtree(store.with_name(store.name + ".parts"), ignore_errors=True)
    jobs = str(len(os.sched_getaffinity(0)))
    command = [
        sys.executable,
        "-m",
        "flowkit_cli",
        "extract",
        str(videos),
        str(store),
        "-q",
        "--jobs",
        jobs,
        *words,
    ]
    subprocess.run(command, check=True)


def main() -> None:
    """Measure both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    clips = sorted((data_folder() / "labelled" / "fight" / "videos").glob("*/*.mp4"))
    step = max(1, len(clips) // options.clips)
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for clip in clips[::step][: options.clips]:
            (videos / clip.name).symlink_to(clip.resolve())
        stores = {PROCESSES: Path(folder) / "one.h5", CLUSTER: Path(folder) / "two.h5"}
        words = {PROCESSES: (), CLUSTER: ("--dask", "local")}
        few = Path(folder) / "few"
        few.mkdir()
        (few / clips[0].name).symlink_to(clips[0].resolve())
        cases = [
            Case(
                name=name,
                work=functools.partial(extract, videos, store, *words[name]),
                warm_up=functools.partial(extract, few, store.with_name("warm.h5"), *words[name]),
            )
            for name, store in stores.items()
        ]
        section = run("seconds a run", cases, rounds=options.rounds, rival=PROCESSES, cores="all")
        with flowkit.open(stores[PROCESSES]) as one, flowkit.open(stores[CLUSTER]) as two:
            equal = all((one[k].flow() == two[k].flow()).all() for k in one)
            section |= {"clips": len(one), "frames": int(sum(one.column("n_frames"))), "equal": bool(equal)}
    for name, row in section["cases"].items():
        print(f"{name}: {shown(row['wall_s'])} s")
    print(write_result("dask", section))


if __name__ == "__main__":
    main()
