#!/usr/bin/env bash
# Run one of the benchmarks' modules of this checkout: run_module.sh MODULE [ARGUMENT]... from any folder.
# It gets this checkout first on its path, and $OUT, if set, as a folder that exists, by its full path.
set -euo pipefail
if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT"
    OUT="$(cd "$OUT" && pwd)"
    export OUT
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m "benchmarks.$1" "${@:2}"
