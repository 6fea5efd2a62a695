#!/usr/bin/env bash
# GPU tests, a short bench, checks for races and stray accesses, and a profile, in one call of under ten
# minutes, on a machine that has cupy, torch, h5py, OpenCV, pytest and a compiler but no internet. Runs
# from the checkout; results go to $OUT, or to benchmarks/results. Checkers and profilers that are not
# there are named and left out; anything that fails makes the whole call fail, after the rest has run.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-$PWD/benchmarks/results}"
export OUT PYTHONPATH="$PWD" FLOWKIT_REQUIRE_CUDA=1
PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin"
mkdir -p "$OUT"
failed=()

# step NAME SECONDS COMMAND...
step() {
    local name=$1 seconds=$2
    shift 2
    if ! command -v "$1" >/dev/null; then
        echo "== $name: not run, there is no $1 here"
        return
    fi
    echo "== $name"
    timeout -k 5 "$seconds" "$@" 2>&1 | tee "$OUT/smoke-$name.txt" || failed+=("$name")
}

small=(python3 -m benchmarks.cuda_small --iterations 6)
profiled=(python3 -m benchmarks.cuda_small --size 320x240 --pairs 64 --presets opencv-cuda --iterations 300)

# The CPU engine, to compare with; tests and bench say so where it is missing.
step build 60 python3 -c "from setuptools import setup; setup(script_args=['-q', 'build_ext', '--inplace'])"
step tests 180 python3 -m benchmarks.bench_cuda --sections gate --seconds 175
if [[ " ${failed[*]} " == *" tests "* ]]; then
    echo "the tests failed: nothing is timed" >&2
else
    step bench 150 python3 -m benchmarks.bench_cuda --quick --seconds 145 \
        --sections limits,start,agreement,kernels,clusters,stages,extraction
fi
step memcheck 50 compute-sanitizer --tool memcheck --error-exitcode 1 "${small[@]}"
step racecheck 50 compute-sanitizer --tool racecheck --error-exitcode 1 "${small[@]}"
step nsys 40 nsys profile --trace=cuda --stats=true --force-overwrite=true --output="$OUT/smoke-nsys" "${profiled[@]}"
step ncu 40 ncu --set basic --clock-control none --launch-skip 50 --launch-count 20 "${profiled[@]}"

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
