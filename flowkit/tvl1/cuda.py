"""The CUDA engine: CUDA C++ kernels in kernels/, compiled by NVRTC and launched through cupy.

Importing this module loads nothing of cupy; `load` does. docs/cuda.md tells how it works and
how it is tested where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.cuda_batch import BatchResult, BatchSolver
from flowkit.tvl1.cuda_device import CudaDevice, open_device
from flowkit.tvl1.cuda_lanes import LANES, MOST_PAIRS, run_batches
from flowkit.tvl1.cuda_plan import Size, TileShape, bytes_per_pair
from flowkit.tvl1.pairs import check_batch
from flowkit.tvl1.params import TVL1Params

VERSION = 1
"""Raised whenever the kernels may give other bits."""

_SHARE_OF_FREE = 0.8
"""Of the free device memory that one call may take, unless it is told."""


@functools.lru_cache(maxsize=8)
def _batch_solver(device: CudaDevice, params: TVL1Params, size: Size, tile: TileShape) -> BatchSolver:
    with device.using():
        return BatchSolver(device, params, size, tile)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CudaSolver:
    """TV-L1 on one GPU, for one set of parameters.

    Parameters
    ----------
    params : TVL1Params
    gpu : int
        Index among the GPUs that CUDA shows to this process.
    memory_bytes : int, optional
        Most device memory that one call takes; default: four fifths of what is free.
    tile : TileShape
        How the tile solver is compiled; the result depends on it by rounding alone.
    """

    name: ClassVar[str] = "cuda"
    version: ClassVar[str] = f"flowkit-cuda {VERSION}"
    deviations: ClassVar[tuple[str, ...]] = ()
    pairs_per_call: ClassVar[int] = MOST_PAIRS

    params: TVL1Params
    gpu: int = 0
    memory_bytes: int | None = None
    tile: TileShape = dataclasses.field(default_factory=TileShape)

    @property
    def device(self) -> str:
        """The GPU's name, such as "NVIDIA H200"."""
        return open_device(self.gpu).name

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair; each frame's pyramid is made once a batch.

        Parameters
        ----------
        frames : array, (n, H, W), uint8 or floating
            Grey values in [0, 255].
        pairs : array, (m, 2), integer
            Rows (k, l): the flow from frame k to frame l.
        threads : int
            Without effect: the GPU takes as many pairs at once as its memory holds.

        Returns
        -------
        float32 array, (m, 2, H, W)
            u to the right, v downwards, px. The bits do not depend on how pairs are batched.

        Raises
        ------
        InvalidParameterError
            Frames or pairs of the wrong shape, dtype or range, or threads < 1.
        BackendError
            One pair alone does not fit into the GPU's memory.
        """
        return self.flow_and_iterations(frames, pairs, threads=threads)[0]

    def flow_and_iterations(
        self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Compute as `flow_batch` does, and tell what it took.

        Returns
        -------
        flow : float32 array, (m, 2, H, W)
        iterations : int32 array, (m, levels, warps)
            The coarsest level first.
        """
        if threads < 1:
            raise InvalidParameterError(f"threads must be >= 1, got {threads}")
        grey, rows = check_batch(frames, pairs)
        device, (count, height, width) = open_device(self.gpu), (len(rows), *grey.shape[1:])
        solver = _batch_solver(device, self.params, (height, width), self.tile)
        flow = np.empty((count, 2, height, width), np.float32)
        iterations = np.zeros((count, solver.levels * self.params.warps), np.int32)
        if count:
            run_batches(
                solver,
                device,
                (grey, rows),
                most_pairs=self._most_pairs(device, grey),
                finish=_flow_and_iterations,
                outputs=(flow, iterations),
            )
        return flow, iterations.reshape(count, solver.levels, self.params.warps)

    def _most_pairs(self, device: CudaDevice, grey: NDArray[Any]) -> int:
        """Return how many pairs one batch may have, with LANES batches on the device."""
        budget = self.memory_bytes or int(_SHARE_OF_FREE * device.free_bytes())
        each = bytes_per_pair(grey.shape[1:], self.params, frame_bytes=grey.itemsize)
        return max(1, min(MOST_PAIRS, budget // (LANES * each)))


def _flow_and_iterations(result: BatchResult) -> tuple[Any, ...]:
    return result.flow, result.iterations


def load(
    params: TVL1Params, *, gpu: int = 0, memory_bytes: int | None = None, tile: TileShape | None = None
) -> CudaSolver:
    """Return the CUDA engine as a solver.

    Parameters
    ----------
    params : TVL1Params
    gpu : int
        Index among the GPUs that CUDA shows to this process.
    memory_bytes : int, optional
        Most device memory that one call takes; default: four fifths of what is free.
    tile : TileShape, optional

    Raises
    ------
    BackendUnavailableError
        No cupy, driver, GPU or NVRTC here, or a GPU too old; the message names the remedy.
    InvalidParameterError
        memory_bytes < 1.
    """
    if memory_bytes is not None and memory_bytes < 1:
        raise InvalidParameterError(f"memory_bytes must be >= 1, got {memory_bytes}")
    open_device(gpu)
    return CudaSolver(params=params, gpu=gpu, memory_bytes=memory_bytes, tile=tile or TileShape())
