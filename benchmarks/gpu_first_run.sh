#!/usr/bin/env bash
# The first run of the CUDA engine on a GPU, in some 400 s; see benchmarks/gpu_first_run.py. Needs a
# checkout, and a python3 (or $PYTHON) with cupy, NVRTC, h5py, joblib, OpenCV and pytest; nothing is
# installed or downloaded.
set -euo pipefail
if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT"
    OUT="$(cd "$OUT" && pwd)"
    export OUT
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.gpu_first_run "$@"
