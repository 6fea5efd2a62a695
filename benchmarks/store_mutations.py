"""Damage stores by a seed and try every command on each: nothing may crash, hang, grow or change unseen.

    python -m benchmarks.store_mutations [--count 2000] [--targeted 500] [--seed 0] [--jobs 1]
    python -m benchmarks.store_mutations --only NUMBER [--seed 0]

Small stores (single and sharded, of each codec; tests/make/store_bases.py) are damaged one file at a time
(tests/make/store_mutations.py); a mutation follows from the seed and its number. `--targeted` flips single
bits in the root's text, the labels, the index and the addresses, which verify must find; their numbers start
at 1,000,000. Each command that reads a store (benchmarks/store_mutation_commands.py) then runs on it. Faults:

- crash, hang (10 s of processor time), traceback, memory (1 GiB): of any command; of plain h5py only in a
  store that verifies
- silent: verify says sound, and flowkit's reader or plain h5py gives another value or none
- laundered: a new store that a command wrote from it verifies, and has another value
- kept, unsound after repair, vanished: `verify --repair` keeps another value, leaves an unsound store, or
  a file of it is neither kept, nor in STORE.broken, nor are all of its videos in the repaired store
- missed: a targeted flip that verify does not find
- wrote: a command that only reads changed the store's files

Values that the reader gave changed and without an error, though verify finds the store unsound, are counted
by kind. `--only` runs one mutation and prints all that its commands found.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.record import ROOT, JsonObject, write_result
from tests.make.store_bases import make_bases
from tests.make.store_mutations import FIRST_TARGETED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--targeted", type=int, default=500, help="flips in text, labels, index, addresses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument(
        "--only", type=int, metavar="NUMBER", help="run this mutation, print it, write nothing"
    )
    parser.add_argument(
        "--commands",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAME,...",
        help="try these and verify alone, such as verify for the targeted flips; not a whole campaign",
    )
    args = parser.parse_args()
    if args.only is not None:
        verdict = next(run_numbers([args.only], seed=args.seed, jobs=1, commands=args.commands, detail=True))
        print(json.dumps(verdict, indent=1, ensure_ascii=False))
        return 1 if verdict["faults"] else 0
    result = campaign(args.count, args.targeted, seed=args.seed, jobs=args.jobs, commands=args.commands)
    path = write_result(f"store-mutations-seed{args.seed}{'-some' if args.commands else ''}", result)
    shown = {name: value for name, value in result.items() if name not in ("faults", "outcomes")}
    print(json.dumps(shown, indent=1), path)
    return 1 if result["faults"] else 0


def campaign(
    count: int, targeted: int, *, seed: int, jobs: int = 1, commands: Sequence[str] = ()
) -> JsonObject:
    """Run mutations 0 to count - 1 and the first targeted ones; return the counts and every fault."""
    began, verdicts, faults = time.monotonic(), [], 0
    numbers = [*range(count), *range(FIRST_TARGETED, FIRST_TARGETED + targeted)]
    for verdict in run_numbers(numbers, seed=seed, jobs=jobs, commands=commands):
        verdicts.append(verdict)
        faults += len(verdict["faults"])
        print(f"\r{len(verdicts)} of {len(numbers)}, {faults} faults", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.monotonic() - began
    return {
        "count": count,
        "targeted": targeted,
        "seed": seed,
        "commands": list(commands) or "all",
        "seconds": round(seconds, 1),
        "mutations_a_second": round(len(numbers) / seconds, 2),
        **summary(sorted(verdicts, key=lambda verdict: verdict["number"])),
    }


def run_numbers(
    numbers: Sequence[int], *, seed: int, jobs: int, commands: Sequence[str] = (), detail: bool = False
) -> Iterator[JsonObject]:
    """Yield the verdict on each mutation, as workers end them."""
    with tempfile.TemporaryDirectory() as folder:
        make_bases(Path(folder))
        found: queue.SimpleQueue[JsonObject | None] = queue.SimpleQueue()
        with ThreadPoolExecutor(jobs) as pool:
            only = ["verify", *commands] if commands else []
            lists = [
                [
                    {"seed": seed, "number": number, "detail": detail, "only": only}
                    for number in numbers[k::jobs]
                ]
                for k in range(jobs)
            ]
            ends = [pool.submit(_fill, found, Path(folder), asked) for asked in lists]
            for _ in ends:
                yield from iter(found.get, None)
            for end in ends:
                end.result()


def _fill(found: queue.SimpleQueue[JsonObject | None], folder: Path, asked: Sequence[JsonObject]) -> None:
    """Put a worker's verdicts into a queue, then None, whatever happens."""
    try:
        for verdict in _of_worker(folder, asked):
            found.put(verdict)
    finally:
        found.put(None)


def _of_worker(folder: Path, asked: Sequence[JsonObject]) -> Iterator[JsonObject]:
    words = [sys.executable, "-m", "benchmarks.store_mutation_worker", str(folder)]
    with tempfile.TemporaryFile("w+") as lines:
        lines.writelines(json.dumps(one) + "\n" for one in asked)
        lines.seek(0)
        with subprocess.Popen(words, cwd=ROOT, stdin=lines, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            yield from map(json.loads, worker.stdout)
    if worker.returncode:
        raise RuntimeError(f"a worker ended with {worker.returncode}; see its message above")


def summary(verdicts: Sequence[JsonObject]) -> JsonObject:
    """Return the counts over all mutations, the extremes, and the faults."""
    general = [verdict for verdict in verdicts if verdict["number"] < FIRST_TARGETED]
    aimed = [verdict for verdict in verdicts if verdict["number"] >= FIRST_TARGETED]
    faults = [fault for verdict in verdicts for fault in verdict["faults"]]
    return {
        "verdicts": _by_kind(general),
        "targeted_verdicts": _by_kind(aimed),
        "targeted_slowest_verify_seconds": max((verdict["verify_seconds"] for verdict in aimed), default=0.0),
        "slowest": sorted(([*v["slowest"], v["number"]] for v in verdicts), reverse=True)[:5],
        "largest_memory": sorted(([*v["largest"], v["number"]] for v in verdicts), reverse=True)[:5],
        "outcomes": _by_command(verdicts),
        "reader_gave_a_changed_value": _changed(verdicts),
        "lists_remade_by_repair": dict(Counter(name for v in verdicts for name in v["remade"])),
        "fault_counts": dict(
            Counter(f"{fault['command']}: {fault['fault']}" for fault in faults).most_common()
        ),
        "mutations_with_faults": sum(bool(verdict["faults"]) for verdict in verdicts),
        "faults": faults,
    }


def _by_kind(verdicts: Sequence[JsonObject]) -> dict[str, dict[str, int]]:
    """Return the verdicts of verify for each kind of mutation."""
    found: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        found.setdefault(verdict["kind"], Counter())[verdict["verdict"]] += 1
    return {kind: dict(counts.most_common()) for kind, counts in found.items()}


def _by_command(verdicts: Sequence[JsonObject]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        for name, outcome in verdict["outcomes"].items():
            found.setdefault(name, Counter())[outcome] += 1
    return {name: dict(counts.most_common()) for name, counts in found.items()}


def _changed(verdicts: Sequence[JsonObject]) -> JsonObject:
    """Return how many mutations changed what a reader gave, by kind of value, with their first numbers."""
    found: dict[str, list[int]] = {}
    for verdict in verdicts:
        for kind in {kind for kinds in verdict["changed"].values() for kind in kinds}:
            found.setdefault(kind, []).append(verdict["number"])
    return {
        kind: {"mutations": len(numbers), "first": numbers[:3]}
        for kind, numbers in sorted(found.items(), key=lambda item: -len(item[1]))
    }


if __name__ == "__main__":
    sys.exit(main())
