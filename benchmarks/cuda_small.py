"""Every kernel of the CUDA engine once, on small frames: for compute-sanitizer and profilers.

    compute-sanitizer --tool memcheck python -m benchmarks.cuda_small

Memory comes straight from the driver, so that a checker sees where each array ends.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import get_args

import numpy as np

from benchmarks.cuda_workload import parse_size
from flowkit.store.codecs import FLOW_CODECS, flow_codec
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.device import open_device
from flowkit.tvl1.params import PRESETS, TVL1Params

WHOLE_MODEL = TVL1Params(
    scale_step=0.75,
    warps=2,
    border="off",
    gradient_taps=5,
    dual="projected",
    dual_start="coarser",
    edge_alpha=3.0,
    weighted_median=5,
    weighted_median_after="level",
    weighted_median_spread=0.1,
)
"""Every parameter beyond the published model's, whatever the presets have."""

_MODELS = {
    "whole model": WHOLE_MODEL,
    "median after warps": dataclasses.replace(WHOLE_MODEL, weighted_median=7, weighted_median_after="warp"),
}


def params_of(preset: str, options: argparse.Namespace) -> TVL1Params:
    """Return a preset's or a model's parameters with what the options change."""
    params = dataclasses.replace({**PRESETS, **_MODELS}[preset], iterations=options.iterations)
    if options.levels is not None:
        params = dataclasses.replace(params, nscales=options.levels)
    if options.epsilon is not None:
        params = dataclasses.replace(params, epsilon=options.epsilon)
    return params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=parse_size, default=(45, 61), metavar="WIDTHxHEIGHT")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--methods", nargs="+", choices=get_args(Method), default=get_args(Method))
    parser.add_argument("--iterations", type=int, default=20, help="at most, of a warp")
    parser.add_argument("--levels", type=int, help="at most; 1: the finest alone")
    parser.add_argument("--epsilon", type=float, help="of the stopping rule, px; default: the preset's")
    parser.add_argument("--flow-only", action="store_true", help="no codes, and the presets alone")
    options = parser.parse_args()
    cupy = open_device(0).cupy
    cupy.cuda.set_allocator(None)
    cupy.cuda.set_pinned_memory_allocator(None)
    shape = options.pairs + 1, *options.size
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pairs = np.stack([np.arange(options.pairs), np.arange(options.pairs) + 1], axis=1)
    for preset in (*options.presets, *(() if options.flow_only else _MODELS)):
        for method in options.methods:
            solver = cuda.load(params_of(preset, options), method=method)
            assert np.isfinite(solver.flow_batch(frames, pairs)).all()
            for codec in () if options.flow_only else FLOW_CODECS:
                solver.codes_batch(frames, pairs, quantizer=flow_codec(codec).quantizer)
            print(preset, method, flush=True)


if __name__ == "__main__":
    main()
