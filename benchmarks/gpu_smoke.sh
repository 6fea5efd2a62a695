#!/usr/bin/env bash
# GPU tests and a short bench in one call, on a machine that has cupy, torch, h5py, OpenCV, pytest
# and a compiler but no internet. Runs from the checkout; results go to $OUT, or to benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD" FLOWKIT_REQUIRE_CUDA=1
python3 -m pytest -q -m gpu tests
python3 -m benchmarks.bench_cuda --quick
