"""The first run of the CUDA engine on a GPU: everything once, whatever breaks, in some 400 s.

    benchmarks/gpu_first_run.sh [--seconds 400] [--steps environment timing ...]

Appends to first_run.jsonl (a result a line) and first_run.log (all output) in $OUT, or in
benchmarks/results. Exit status 0: every step ended well, or its program is absent; 1: a step failed or
was stopped at its limit; 2: no GPU. It does not import the engine: a broken one is a step that fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_steps import ALL_SECONDS, first_run_steps
from benchmarks.record import RESULTS, circumstances
from benchmarks.run_summary import table
from benchmarks.step_runner import Outcome, Record, Step, exit_status, run_steps

NO_GPU = 2


def run_all(name: str, steps: Sequence[Step], seconds: float) -> int:
    """Run steps into NAME.jsonl and NAME.log, print the summary and return the exit status.

    The first step says whether there is a GPU; without one no other runs.
    """
    # A caller that ends this process gets what is there, and leaves none of its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    outcomes: list[Outcome] = []
    with Record(Path(os.environ.get("OUT") or RESULTS), name) as record:
        record.result("circumstances", {"run": name, **circumstances()})
        try:
            for outcome in run_steps(steps, record, seconds):
                outcomes.append(outcome)
                if any("no_gpu" in result for result in outcome.results):
                    return NO_GPU
        finally:
            summary = table(outcomes)
            record.log(summary)
            print(summary, *record.paths, sep="\n", flush=True)
    return exit_status(outcomes)


def scaled(steps: Sequence[Step], factor: float) -> list[Step]:
    """Return the steps with their limits multiplied."""
    return [dataclasses.replace(step, seconds=step.seconds * factor) for step in steps]


def main() -> None:
    names = [step.name for step in first_run_steps()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=ALL_SECONDS, help="of all steps; limits scale with it"
    )
    parser.add_argument("--steps", nargs="+", choices=names, default=names, help="which; environment always")
    options = parser.parse_args()
    steps = [step for step in first_run_steps() if step.name in options.steps or step.name == "environment"]
    sys.exit(run_all("first_run", scaled(steps, options.seconds / ALL_SECONDS), options.seconds))


if __name__ == "__main__":
    main()
