"""A second, shorter run on a GPU: some sections again, with other sizes and shapes.

    benchmarks/gpu_rerun.sh --section timing tiles --tile 1x4x16x5 2x4x16x4
    benchmarks/gpu_rerun.sh --section cluster_shapes --cluster 256x192=8x1x12x16 320x240=10x1x16x15

Appends to rerun.jsonl and rerun.log in $OUT, or in benchmarks/results; exit statuses are those of
gpu_first_run.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.cuda_section import SECTIONS
from benchmarks.cuda_workload import add_arguments, words_of
from benchmarks.gpu_first_run import run_all, scaled
from benchmarks.gpu_steps import rerun_steps, section, step_names

ALL_SECONDS = 200.0
_GPU_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--section", nargs="+", required=True, choices=step_names(list(SECTIONS)))
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help="of all together")
    parser.add_argument("--scale", type=float, default=1.0, help="of each section's own limit")
    parser.add_argument("--small", nargs=argparse.REMAINDER, default=[], help="options of cuda_small, last")
    add_arguments(parser)
    options = parser.parse_args()
    steps = scaled(rerun_steps(options.section, words_of(options), options.small), options.scale)
    sys.exit(run_all("rerun", [section("gpu", _GPU_SECONDS), *steps], options.seconds))


if __name__ == "__main__":
    main()
