"""Run one section in this process, each result a line of JSON on standard output.

    python -m benchmarks.cuda_section timing --size 320x240 --pairs 64

Exit status 1 where a result failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator

from benchmarks.cuda_workload import Workload, add_arguments, workload_of
from benchmarks.record import JsonObject

SECTIONS = {
    "gpu": "cuda_environment",
    "environment": "cuda_environment",
    "pair_by_tiles": "cuda_sections",
    "pair_by_clusters": "cuda_sections",
    "limits": "cuda_timing",
    "timing": "cuda_timing",
    "cluster_shapes": "cuda_timing",
    "stages": "cuda_sections",
    "tiles": "cuda_timing",
    "extraction": "cuda_extraction",
    "baseline_opencv": "cuda_baselines",
    "baseline_raft": "cuda_baselines",
    "baseline_hardware": "cuda_baselines",
    "start": "cuda_sections",
    "agreement": "cuda_sections",
    "copies": "cuda_sections",
    "batches": "cuda_timing",
    "presets": "cuda_timing",
}
"""Each section's module, imported on use: what one of them lacks costs no other."""


def results_of(section: str, workload: Workload) -> Iterator[JsonObject]:
    """Return the results of a section, one after the other, as JSON can hold them."""
    module = importlib.import_module(f"benchmarks.{SECTIONS[section]}")
    results: Iterator[JsonObject] = getattr(module, section)(workload)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    add_arguments(parser)
    options = parser.parse_args()
    failed = False
    try:
        for result in results_of(options.section, workload_of(options)):
            print(json.dumps(result), flush=True)
            failed |= "failed" in result
    except Exception as error:  # whatever a section does not survive is its last result
        traceback.print_exc()
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), flush=True)
        failed = True
    if failed:
        # After a fault the driver may hold up the interpreter's own end.
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
