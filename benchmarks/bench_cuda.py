"""Build, check and time the CUDA engine on a machine with a GPU, in one command.

    python -m benchmarks.bench_cuda [--quick] [--sections gate,start,kernels,...]

Writes bench_cuda.json into $OUT, or into benchmarks/results. Needs cupy, NVRTC and pytest; runs
from a checkout without installing it. Each section is a process of its own with a time limit, so
that a hang or a crash of one costs that one alone; all together end within --seconds. Nothing is
timed if the gate fails, unless --no-gate says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cuda_sections import SECTIONS
from benchmarks.record import RESULTS, ROOT, JsonObject, circumstances
from flowkit.tvl1.cuda.device import open_device

SECTION_SECONDS = {"gate": 180}
OTHER_SECTIONS_SECONDS = 90
ALL_SECONDS = 470
LEAST_SECONDS = 10
"""Least time in which a section gives a result."""


def run_section(name: str, quick: bool, seconds_left: float) -> list[JsonObject]:
    """Run a section in a process of its own; what it yielded before a failure is kept."""
    limit = int(min(SECTION_SECONDS.get(name, OTHER_SECTIONS_SECONDS), seconds_left))
    if limit < LEAST_SECONDS:
        return [{"failed": "not run: no time is left"}]
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_cuda",
        "--section",
        name,
        *(["--quick"] if quick else []),
    ]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            status: object = subprocess.run(
                command, cwd=ROOT, stdout=out, stderr=err, timeout=limit, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit} s"
        out.seek(0)
        err.seek(0)
        results: list[JsonObject] = [json.loads(line) for line in out if line.startswith("{")]
        if status != 0:
            results.append({"failed": status, "stderr": err.read()[-3000:]})
    return results


def machine() -> JsonObject:
    """Return the circumstances and the GPU; of a checkout without git the date alone."""
    device = open_device(0)
    runtime = device.cupy.cuda.runtime
    gpu = {
        "name": device.name,
        "capability": device.capability,
        "processors": device.processors,
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "cupy": device.cupy.__version__,
    }
    try:
        return {"gpu": gpu, **circumstances()}
    except (OSError, subprocess.CalledProcessError):
        return {"gpu": gpu, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of each section")
    parser.add_argument("--no-gate", action="store_true", help="time even if the tests fail")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, in order")
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help="for all sections together")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        for result in SECTIONS[options.section](options.quick):
            print(json.dumps(result), flush=True)
        return
    ends = time.monotonic() + options.seconds
    report: JsonObject = {"circumstances": machine()}
    path = Path(os.environ.get("OUT", RESULTS)) / "bench_cuda.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in options.sections.split(","):
        report[name] = run_section(name, options.quick, ends - time.monotonic())
        print(name, json.dumps(report[name], indent=1), flush=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        if name == "gate" and not all(r.get("passed") for r in report[name]) and not options.no_gate:
            sys.exit("the gate failed: nothing is timed")
    print(path)


if __name__ == "__main__":
    main()
