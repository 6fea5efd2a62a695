"""Disturb an extraction in the middle; run it again; verify: no fault may cost what was finished.

    python -m benchmarks.disruption_campaign [--repeats 5] [--cuts 200] [--seed 0] [--only NAME]...

Each scenario (benchmarks/disruption_scenarios.py) starts `flowkit extract --jobs 2` of eight small videos,
every second time into shards, and disturbs it at a moment that follows from the seed: SIGKILL of a worker,
of the coordinator and of all processes, SIGTERM and Ctrl-C; a dask cluster that loses a worker or its
scheduler; a disk that fills; folders that become read-only or vanish; a slow folder; a clock that jumps
a day; limits of open files, file size and memory. Then the fault is undone and the same command runs again.
Faults of flowkit are:

- a traceback, a hang, an unexpected status, or a status without a message, of either command
- a repeated command that fails, or that extracts a video again which was reported as stored
- a store that `verify --deep` finds unsound, or whose flow differs from that of an undisturbed one
- processes that outlive the command, files beside the store, temporaries

`cut` cuts finished stores at random offsets (benchmarks/disruption_cuts.py): verify must find each, and a
reader raise FlowkitErrors alone or return what was stored. SIGKILL at every system call is fault_campaign's.
Mounting needs root; scenarios that cannot run are named in the result.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.disruption_scenarios import SCENARIOS
from benchmarks.disruptions import OPTIONS, SHARDS, VIDEOS, Case, environment, judge, make_videos
from benchmarks.record import JsonObject, write_result

CUT = "cut"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5, help="of each scenario")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="NAME", choices=[*SCENARIOS, CUT])
    parser.add_argument("--no-result", action="store_true", help="print the table, write no file")
    args = parser.parse_args()
    result = campaign(args.only or [*SCENARIOS, CUT], repeats=args.repeats, cuts=args.cuts, seed=args.seed)
    print(table(result))
    if not args.no_result:
        print(write_result(f"disruption-campaign{'-some' if args.only else ''}", result))
    return 1 if result["faults"] else 0


def campaign(names: Sequence[str], *, repeats: int, cuts: int = 200, seed: int = 0) -> JsonObject:
    """Run scenarios; return the rows of each, and every fault."""
    began, rows, skipped = time.monotonic(), {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        reference = make_reference(Path(temporary))
        for name in names:
            if name == CUT:
                rows[name] = [cut_stores(reference, cuts, seed)]
            elif why := SCENARIOS[name].needs():
                skipped[name] = why
            else:
                rows[name] = [disturb(name, number, seed, reference) for number in range(repeats)]
            faults = sum(len(row["faults"]) for row in rows.get(name, []))
            print(f"{name}: {faults} faults, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return {
        "seed": seed,
        "repeats": repeats,
        "videos": VIDEOS,
        "scenarios": rows,
        "skipped": skipped,
        "faults": [
            f"{name} {k}: {fault}"
            for name, found in rows.items()
            for k, row in enumerate(found)
            for fault in row["faults"]
        ],
        "seconds": round(time.monotonic() - began, 1),
    }


def make_reference(folder: Path) -> Path:
    """Make the videos and the undisturbed stores, one file and sharded, in a folder; return the first."""
    videos = make_videos(folder / "videos")
    for name, options in (("reference.h5", ()), ("sharded.h5", SHARDS)):
        words = ["extract", videos, folder / name, *OPTIONS, *options]
        command = [sys.executable, "-m", "flowkit_cli", *map(str, words)]
        subprocess.run(command, check=True, env=environment(folder / "path"), stderr=subprocess.DEVNULL)
    if not (folder / "sharded.h5.shards").is_dir():
        raise RuntimeError(f"the videos make a store below {SHARDS[1]}: it has no shards to disturb")
    return folder / "reference.h5"


def disturb(name: str, number: int, seed: int, reference: Path) -> JsonObject:
    """Run a scenario once; return its row."""
    case = Case(
        folder=reference.parent / f"{name}-{number}",
        reference=reference,
        shims=reference.parent,
        random=random.Random(f"{name} {number} {seed}"),
        words=SHARDS if number % 2 else (),
    )
    with case.cleanup:
        row = judge(case, SCENARIOS[name], SCENARIOS[name].run(case))
    shutil.rmtree(case.folder)
    return row


def cut_stores(reference: Path, count: int, seed: int) -> JsonObject:
    """Cut the undisturbed stores in a process that forks; return its row."""
    words = [sys.executable, "-m", "benchmarks.disruption_cuts", reference, reference.parent, count, seed]
    env = environment(reference.parent / "path")
    done = subprocess.run(list(map(str, words)), env=env, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def table(result: JsonObject) -> str:
    """Return the outcomes as a table in Markdown, then every fault."""
    lines = ["| scenario | disturbed command | repeated | equal | faults |", "|---|---|---|---|---|"]
    for name, rows in result["scenarios"].items():
        faults = sum(len(row["faults"]) for row in rows)
        if name == CUT:
            told = ", ".join(f"{count} {text}" for text, count in sorted(rows[0]["statuses"].items()))
            lines.append(f"| {name} | {told} | | | {faults} |")
            continue
        first, second = (
            ", ".join(f"{count} x {status}" for status, count in sorted(Counter(found).items()))
            for found in ([row[key] for row in rows] for key in ("status", "repeated_status"))
        )
        equal = f"{sum(row['equal'] for row in rows)} of {len(rows)}"
        lines.append(f"| {name} | {first} | {second} | {equal} | {faults} |")
    lines += [f"not run: {name}: {why}" for name, why in result["skipped"].items()]
    return "\n".join([*lines, *result["faults"]])


if __name__ == "__main__":
    sys.exit(main())
