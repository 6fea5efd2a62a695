#!/usr/bin/env bash
# Some sections of the CUDA benchmarks again, with other sizes and shapes; see benchmarks/gpu_rerun.py.
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_module.sh" gpu_rerun "$@"
