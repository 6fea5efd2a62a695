"""Plant every fault into the CUDA kernels and record which schedules of the emulation catch it.

    python -m benchmarks.cuda_mutations

Takes some minutes on one core; writes benchmarks/results/cuda-mutations-<date>.json.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.record import ROOT, JsonObject, write_result
from tests.tvl1.emulation.faults import CHECKS, SCHEDULES, Fault, fault_list, what_catches

SECONDS_PER_FAULT = 300


def examine(fault: Fault) -> JsonObject:
    """Run one fault's check under every schedule, in a process that may crash."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tests.tvl1.emulation.faults", fault.name]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_PER_FAULT
        )
    except subprocess.TimeoutExpired:
        verdicts = ["error: no end within the time limit"]
    else:
        crashed = f"error: the process ended with {done.returncode}"
        verdicts = json.loads(done.stdout) if done.returncode == 0 else [crashed]
    return {
        "fault": fault.name,
        "file": fault.file,
        "check": fault.check,
        "answers": verdicts,
        "caught": any(verdicts),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Run the campaign and print what survived."""
    # Each process compiles only what its fault touches.
    os.environ["FLOWKIT_EMULATION_DIR"] = tempfile.mkdtemp(prefix="flowkit-emulation-")
    clean = {check: [what_catches(None, check, s) for s in SCHEDULES] for check in CHECKS}
    assert not any(any(verdicts) for verdicts in clean.values()), clean
    workers = len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(examine, fault_list()))
    survivors = [result["fault"] for result in results if not result["caught"]]
    in_turn_only = sum(not result["answers"][0] for result in results)
    summary = {
        "faults": len(results),
        "caught": len(results) - len(survivors),
        "missed by the schedule in turn alone": in_turn_only,
        "survivors": survivors,
    }
    path = write_result("cuda-mutations", {"summary": summary, "schedules": SCHEDULES, "results": results})
    print(json.dumps(summary, indent=1))
    print(path)


if __name__ == "__main__":
    main()
