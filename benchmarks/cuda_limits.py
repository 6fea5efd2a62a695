"""Limits of one GPU, measured, and its utilisation: the references of a benchmark."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda.device import CudaDevice, open_device
from flowkit.tvl1.cuda.nvrtc import load_nvrtc

REPEATS = 3
SAMPLE_MILLISECONDS = 200

FMA_KERNEL = """
// Sixteen independent chains: as many FFMA as a processor issues.
extern "C" __global__ void fma_rate(float* out, int rounds, float x, float y)
{
    float chain[16];
    for (int k = 0; k < 16; ++k) chain[k] = threadIdx.x + k;
    for (int r = 0; r < rounds; ++r)
#pragma unroll
        for (int k = 0; k < 64; ++k) chain[k % 16] = fmaf(chain[k % 16], x, y);
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += chain[k];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""
_FMAS_PER_ROUND = 64
_ROUNDS = 4096
_THREADS = 256
_BLOCKS_PER_PROCESSOR = 8


def seconds_of(work: Callable[[], object]) -> list[float]:
    """Return the seconds of REPEATS runs after one to warm up, the device waited for."""
    cupy = open_device(0).cupy
    times = []
    for _ in range(REPEATS + 1):
        cupy.cuda.runtime.deviceSynchronize()
        start = time.perf_counter()
        work()
        cupy.cuda.runtime.deviceSynchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def instructions_per_second() -> float:
    """Return the single-precision instructions that the GPU issues a second, lanes counted singly."""
    device = open_device(0)
    with device.using():
        out = device.empty((device.processors * _BLOCKS_PER_PROCESSOR * _THREADS,), np.float32)
        kernel = _fma_kernel(device)
        args = (out, np.int32(_ROUNDS), np.float32(0.5), np.float32(1))
        grid = (device.processors * _BLOCKS_PER_PROCESSOR, 1, 1)
        seconds = seconds_of(lambda: kernel(grid, (_THREADS, 1, 1), args))
    return len(out) * _ROUNDS * _FMAS_PER_ROUND / statistics.median(seconds)


def _fma_kernel(device: CudaDevice) -> Any:
    nvrtc = load_nvrtc(device.cuda_major)
    architecture = cuda_kernels.target_architecture(device.capability, nvrtc)
    module = device.cupy.cuda.Module()
    module.load(nvrtc.compile("fma.cu", {"fma.cu": FMA_KERNEL}, {}, architecture).cubin)
    return module.get_function("fma_rate")


def bytes_per_second(copied: int) -> float:
    """Return the bytes that a copy of so many within device memory reads and writes a second."""
    device = open_device(0)
    with device.using():
        a = device.zeros((copied,), np.uint8)
        b = device.empty(a.shape, np.uint8)
        seconds = seconds_of(lambda: device.cupy.copyto(b, a))
    return 2 * int(a.nbytes) / statistics.median(seconds)


@contextlib.contextmanager
def gpu_busy(fractions: list[float]) -> Iterator[None]:
    """Append, for each fifth of a second of a `with` block, the fraction of time a kernel was running.

    As nvidia-smi counts it, over its own sample period (1/6 s to 1 s). Nothing is appended where
    there is no nvidia-smi.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        yield
        return
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([command, *query, f"--loop-ms={SAMPLE_MILLISECONDS}"], stdout=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            output.seek(0)
            fractions += [float(line) / 100 for line in output if line.strip().isdigit()]
