"""Extract damaged videos: each is stored, or fails for a reason that is its own.

    python -m benchmarks.mutation_campaign [--count 2000] [--seed 0] [--decoder av|opencv]

Small videos of many codecs and containers (tests/make/mutations.py) are damaged by a fixed seed: flipped
bits, header bytes, cuts, splices, holes, sizes. Batches are extracted in processes of their own. The
campaign fails on an `internal_error`, a process that dies, a batch that takes longer than its deadline, or
memory beyond the bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.record import ROOT, JsonObject, write_result
from flowkit.executor import InlineExecutor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import find_sources
from flowkit.resize_rule import ResizeRule
from flowkit.tvl1.params import resolve_params
from flowkit.typing import Decoder
from tests.make import mutations

BATCH = 50
BATCH_DEADLINE_SECONDS = 120
MEMORY_BOUND_BYTES = 400 << 20
BAD = ("internal_error", "out_of_memory", "engine_error")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decoder", choices=["av", "opencv"], default="av")
    parser.add_argument("--batch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.batch is not None:
        print(json.dumps(extract_batch(args.batch, args.decoder)))
        return 0
    result = campaign(args.count, args.seed, args.decoder)
    path = write_result(f"mutation-campaign-{args.decoder}", result)
    print(json.dumps({name: value for name, value in result.items() if name != "faults"}), path)
    return 1 if result["faults"] else 0


def campaign(count: int, seed: int, decoder: Decoder) -> JsonObject:
    began = time.monotonic()
    reasons: Counter[str] = Counter()
    faults: list[str] = []
    slowest, memory = 0.0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sound").mkdir()
        files = mutations.originals(folder / "sound")
        made = list(mutations.mutants(files, count, seed))
        for first in range(0, count, BATCH):
            batch = folder / f"batch{first}"
            batch.mkdir()
            for name, data in made[first : first + BATCH]:
                (batch / name).write_bytes(data)
            found = run_batch(batch, decoder)
            faults += found["faults"]
            reasons.update(found["reasons"])
            slowest, memory = max(slowest, found["seconds"]), max(memory, found["memory_bytes"])
            print(f"\r{first + BATCH} of {count}, {len(faults)} faults", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if memory > MEMORY_BOUND_BYTES:
        faults.append(f"{memory} bytes of memory, more than {MEMORY_BOUND_BYTES}")
    return {
        "count": count,
        "seed": seed,
        "decoder": decoder,
        "originals": [path.name for path in files],
        "outcomes": dict(reasons.most_common()),
        "largest_memory_bytes": memory,
        "slowest_batch_seconds": round(slowest, 1),
        "seconds": round(time.monotonic() - began, 1),
        "faults": faults,
    }


def run_batch(batch: Path, decoder: Decoder) -> JsonObject:
    """Extract a folder in a process of its own, and count a process that dies or hangs as a fault."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "benchmarks.mutation_campaign",
        "--decoder",
        decoder,
        "--batch",
        str(batch),
    ]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BATCH_DEADLINE_SECONDS
        )
    except subprocess.TimeoutExpired:
        fault = f"{batch.name}: no end after {BATCH_DEADLINE_SECONDS} s"
        return {"faults": [fault], "reasons": {}, "seconds": BATCH_DEADLINE_SECONDS, "memory_bytes": 0}
    seconds = time.monotonic() - began
    if done.returncode != 0:
        fault = f"{batch.name}: ended with {done.returncode}: {done.stderr[-500:]}"
        return {"faults": [fault], "reasons": {}, "seconds": seconds, "memory_bytes": 0}
    found: JsonObject = json.loads(done.stdout.splitlines()[-1])
    return found | {"seconds": seconds}


def extract_batch(folder: Path, decoder: Decoder) -> JsonObject:
    """Extract a folder in this process; the name and the reason of each fault, and the memory."""
    config = ExtractConfig(
        resize=ResizeRule(short_side=32), jobs=1, decoder=decoder, params=resolve_params("fast")
    )
    with InlineExecutor() as executor:
        report = extract(find_sources([folder]), folder.with_suffix(".h5"), config=config, executor=executor)
    reasons = [outcome.reason or outcome.status for outcome in report.outcomes]
    faults = [
        f"{Path(failure.source).name}: {failure.reason}: {failure.detail[-800:]}"
        for failure in report.failures
        if failure.reason in BAD
    ]
    return {"reasons": Counter(reasons), "faults": faults, "memory_bytes": peak_memory_bytes()}


def peak_memory_bytes() -> int:
    """Return this program's own peak; `ru_maxrss` is also that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.exit(main())
