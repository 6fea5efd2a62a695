"""Cut a finished store's files at random offsets; run verify and the reader on what is left.

    python -m benchmarks.disruption_cuts REFERENCE FOLDER COUNT SEED

The stores are REFERENCE and, where it is there, `sharded.h5` beside it, of the same videos. Each cut is tried
in forked processes: `flowkit verify` must end with 1 or 2 and a word, a reader must raise FlowkitErrors alone
or return the undisturbed values. Prints one JSON object, as a row of a campaign has it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import flowkit
import flowkit_cli
from flowkit.executor import InlineExecutor  # noqa: F401  (so that no fork has to import it)


def forked(work: Callable[[], int], log: Path) -> tuple[int, str]:
    """Call something in a process of its own; return its status and its output."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, log.read_text(errors="replace")
    status = 99
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 99
    except BaseException:  # printed: the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def verify(store: Path) -> int:
    sys.argv = ["flowkit", "verify", str(store), "--jobs", "1"]
    flowkit_cli.main()
    return 0


def read(store: Path, reference: Path) -> int:
    """Read all that a store gives; 0 where a value is missing or all are equal, 3 where one differs."""
    with flowkit.open(reference) as two:
        expected = {key: (two[key].flow(), two[key].frames()) for key in two}
    try:
        with flowkit.open(store) as one:
            if list(one) != list(expected):
                return 3
            for key in expected:
                try:
                    flow, frames = one[key].flow(), one[key].frames()
                except flowkit.FlowkitError as error:
                    print(f"{key}: {error}")
                    continue
                if not (np.array_equal(flow, expected[key][0]) and np.array_equal(frames, expected[key][1])):
                    return 3
    except flowkit.FlowkitError as error:
        print(error)
    return 0


def cut(source: Path, target: Path, chance: random.Random) -> str:
    """Copy a store and cut one of its files, sometimes at an end; return which and where."""
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    shutil.copy(source, target)
    shards = source.with_name(f"{source.name}.shards")
    files = [target]
    if shards.exists():
        files += sorted(shutil.copytree(shards, target.with_name(f"{target.name}.shards")).iterdir())
    file = chance.choice(files)
    size = file.stat().st_size
    at = chance.choice([0, 1, 8, size - 1, *(chance.randrange(size) for _ in range(36))])
    os.truncate(file, at)
    return f"{source.stem}: {file.name} at {at} of {size}"


def main(reference: Path, folder: Path, count: int, seed: int) -> None:
    chance, faults, statuses = random.Random(f"cut {seed}"), [], Counter[str]()
    store, log = folder / "cut" / "out.h5", folder / "cut.log"
    stores = [path for path in (reference, reference.with_name("sharded.h5")) if path.exists()]
    for _ in range(count):
        where = cut(chance.choice(stores), store, chance)
        status, said = forked(lambda: verify(store), log)
        statuses[f"verify {status}"] += 1
        if status not in (1, 2) or "Traceback" in said or not said.strip():
            faults.append(f"{where}: verify ended with {status}: {said[-300:]}")
        status, said = forked(lambda: read(store, reference), log)
        statuses[f"read {status}, {'with' if said.strip() else 'without'} an error"] += 1
        if status != 0 or "Traceback" in said:
            faults.append(f"{where}: reading ended with {status}: {said[-300:]}")
    print(json.dumps({"cuts": count, "statuses": dict(statuses), "faults": faults}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
