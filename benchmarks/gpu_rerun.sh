#!/usr/bin/env bash
# Some sections of the CUDA benchmarks again, with other sizes and shapes; see benchmarks/gpu_rerun.py.
set -euo pipefail
if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT"
    OUT="$(cd "$OUT" && pwd)"
    export OUT
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.gpu_rerun "$@"
