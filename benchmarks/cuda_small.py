"""Every kernel of the CUDA engine once, on small frames: for compute-sanitizer and profilers.

    compute-sanitizer --tool memcheck python -m benchmarks.cuda_small

Memory comes straight from the driver, so that a checker sees where each array ends.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import get_args

import numpy as np

from flowkit.store.codecs import FLOW_CODECS, flow_codec
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.device import open_device
from flowkit.tvl1.params import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="61x45", help="WIDTHxHEIGHT, px")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--iterations", type=int, default=20, help="at most, of a warp")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    cupy = open_device(0).cupy
    cupy.cuda.set_allocator(None)
    cupy.cuda.set_pinned_memory_allocator(None)
    frames = np.random.default_rng(0).integers(0, 256, (options.pairs + 1, height, width), dtype=np.uint8)
    pairs = np.stack([np.arange(options.pairs), np.arange(options.pairs) + 1], axis=1)
    for preset in options.presets.split(","):
        params = dataclasses.replace(PRESETS[preset], iterations=options.iterations)
        for method in get_args(Method):
            solver = cuda.load(params, method=method)
            assert np.isfinite(solver.flow_batch(frames, pairs)).all()
            for codec in FLOW_CODECS:
                solver.codes_batch(frames, pairs, quantizer=flow_codec(codec).quantizer)
            print(preset, method, flush=True)


if __name__ == "__main__":
    main()
