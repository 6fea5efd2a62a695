#!/usr/bin/env bash
# The first run of the CUDA engine on a GPU, in some 400 s; see benchmarks/gpu_first_run.py. Needs a
# checkout, and a python3 (or $PYTHON) with cupy, NVRTC, h5py, joblib, OpenCV and pytest; nothing is
# installed or downloaded.
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_module.sh" gpu_first_run "$@"
