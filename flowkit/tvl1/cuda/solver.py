"""The CUDA engine: CUDA C++ kernels in kernels/, compiled by NVRTC and launched through cupy.

Importing this module loads nothing of cupy; `load` does. docs/cuda.md explains the kernels
and their tests where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendUnavailableError, GpuError
from flowkit.quantize import Quantizer
from flowkit.tvl1.cuda.batch import BatchResult, BatchSolver, Method
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray, count_gpus, open_device
from flowkit.tvl1.cuda.faults import patience_seconds
from flowkit.tvl1.cuda.interop import adopt, as_grey, device_index, on_stream
from flowkit.tvl1.cuda.plan import Size, TileShape, bytes_per_pair
from flowkit.tvl1.cuda.quantize import checked_largest, enqueue_codes, has_kernel
from flowkit.tvl1.cuda.streams import LANES, MOST_PAIRS, Finish, run_batches, run_in_place
from flowkit.tvl1.engine import FlowCodes, check_batch, quantize_flows
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes
from flowkit.validate import check_at_least, check_choice

VERSION = 2
"""Increased whenever the kernels may return other bits."""

DEFAULT_METHOD: Method = "cluster"
"""1.7 to 1.9 times as fast as tiles on an H200 (docs/cuda.md)."""

_FRACTION_OF_FREE = 0.8
"""Of the free device memory that one call may take without `memory_bytes`."""

_FIRST_WORK_SECONDS = 60.0


@functools.lru_cache(maxsize=8)
def _batch_solver(
    device: CudaDevice, params: TVL1Params, size: Size, *, tile: TileShape, method: Method
) -> BatchSolver:
    with device.faults.boundary(), device.using():
        return BatchSolver(device, params, size, tile=tile, method=method)


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
        Sizes that the tile solver is compiled for; the result depends on them by rounding alone.
    callers : int
        Calls at once that share the memory that is free.
    method : {"tile", "cluster"}
        "cluster" keeps a pair on chip for a whole level where it fits, on compute capability 9 and
        10; other levels, and parameters with a median, are solved by tiles.
    """

    name: ClassVar[str] = "cuda"
    version: ClassVar[str] = f"flowkit-cuda {VERSION}"
    deviations: ClassVar[tuple[str, ...]] = ()
    pairs_per_call: ClassVar[int] = MOST_PAIRS

    params: TVL1Params
    gpu: int = 0
    memory_bytes: int | None = None
    callers: int = 1
    tile: TileShape = dataclasses.field(default_factory=TileShape)
    method: Method = DEFAULT_METHOD

    @property
    def device(self) -> str:
        """The GPU's name, such as "NVIDIA H200"."""
        return open_device(self.gpu).name

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair; each frame's pyramid is made once a batch.

        Parameters
        ----------
        frames : array, (n, H, W), uint8 or floating
            Grey values in [0, 255]. A cupy array, a torch CUDA tensor, or any array with DLPack or
            the CUDA array interface is used on its own GPU, whichever `gpu` is, on its owner's
            stream, and its values are not checked.
        pairs : array, (m, 2), integer
            On the host. Rows (k, l): the flow from frame k to frame l.
        threads : int
            Without effect: the GPU takes as many pairs at once as its memory holds.

        Returns
        -------
        float32 array, (m, 2, H, W)
            u to the right, v downwards, px; for frames on the device an array of their kind,
            there. The bits do not depend on how pairs are batched.

        Raises
        ------
        InvalidParameterError
            Frames or pairs of the wrong shape, dtype or range, or threads < 1.
        BackendError
            One pair alone does not fit into the GPU's memory.
        GpuError
            The GPU failed, or does not come to an end.
        """
        index = device_index(frames)
        if index is not None:
            flow: NDArray[np.float32] = self._flow_in_place(open_device(index), frames, pairs)
            return flow
        return self.flow_and_iterations(frames, pairs, threads=threads)[0]

    def _flow_in_place(self, device: CudaDevice, frames: Any, pairs: ArrayLike) -> Any:
        with device.faults.boundary(), device.using():
            adopted = adopt(device.cupy, frames)
            rows = check_batch(np.zeros((len(adopted.array), 1, 1), np.uint8), pairs)[1]
            with on_stream(adopted):
                grey = as_grey(device.cupy, adopted.array)
                solver = _batch_solver(
                    device, self.params, grey.shape[1:], tile=self.tile, method=self.method
                )
                most_pairs = self._most_pairs(device, grey, lanes=1)
                flow = run_in_place(solver, device, (grey, rows), most_pairs=most_pairs)
                return adopted.give_back(flow)

    def flow_and_iterations(
        self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Compute as `flow_batch` does, and count the iterations.

        Returns
        -------
        flow : float32 array, (m, 2, H, W)
        iterations : int32 array, (m, levels, warps)
            The coarsest level first.
        """
        check_at_least("threads", threads, 1)
        grey, rows = check_batch(frames, pairs)
        height, width = grey.shape[1:]
        levels = len(level_sizes((height, width), self.params))
        flow = np.empty((len(rows), 2, height, width), np.float32)
        iterations = np.zeros((len(rows), levels * self.params.warps), np.int32)
        self._run(grey, rows, _flow_and_iterations, (flow, iterations))
        return flow, iterations.reshape(len(rows), levels, self.params.warps)

    def codes_batch(self, frames: ArrayLike, pairs: ArrayLike, *, quantizer: Quantizer) -> FlowCodes:
        """Compute as `flow_batch` does, and bring back codes instead of floats.

        Parameters
        ----------
        frames, pairs : arrays
            As for `flow_batch`.
        quantizer : Quantizer
            Its codes are made on the device where there is a kernel for it, else on the host.

        Returns
        -------
        FlowCodes

        Raises
        ------
        InvalidParameterError
            As for `flow_batch`; a flow that is not finite.
        BackendError
            One pair alone does not fit into the GPU's memory.
        GpuError
            The GPU failed, or does not come to an end.
        """
        if not has_kernel(quantizer):
            return quantize_flows(self.flow_batch(frames, pairs), quantizer)
        grey, rows = check_batch(frames, pairs)
        device = open_device(self.gpu)
        codes = np.empty((len(rows), 2, *grey.shape[1:]), quantizer.dtype)
        scales = np.zeros(len(rows), np.float32)
        largest, clipped = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)

        def finish(result: BatchResult) -> tuple[DeviceArray, ...]:
            return enqueue_codes(device, result.flow, quantizer)

        seconds = self._run(grey, rows, finish, (codes, scales, largest, clipped))
        return FlowCodes(
            codes=codes,
            scales=scales,
            largest_px=checked_largest(largest),
            clipped=clipped,
            seconds=seconds,
        )

    def warm_up(self) -> None:
        """Do the first work of this process on the GPU, which opens a context and may take seconds.

        Raises
        ------
        GpuError
            The GPU failed, or does not come to an end.
        """
        device = open_device(self.gpu)
        with device.faults.boundary(_FIRST_WORK_SECONDS), device.using():
            device.zeros((1,), np.int32)
            device.faults.wait(device.event())

    def enter_thread(self) -> None:
        """Make the GPU that of this thread, which nobody else uses.

        Raises
        ------
        GpuError
            The GPU failed.
        """
        open_device(self.gpu).enter_thread()

    def failure(self) -> GpuError | None:
        """Return the error that ended the GPU, a call into the driver that does not return included."""
        return open_device(self.gpu).faults.stuck()

    def _run(
        self,
        grey: NDArray[np.generic],
        rows: NDArray[np.int32],
        finish: Finish,
        outputs: tuple[NDArray[np.generic], ...],
    ) -> dict[str, float]:
        if not len(rows):
            return {}
        device, (height, width) = open_device(self.gpu), grey.shape[1:]
        solver = _batch_solver(device, self.params, (height, width), tile=self.tile, method=self.method)
        with device.faults.boundary():
            most_pairs = self._most_pairs(device, grey)
        return run_batches(
            solver, device, (grey, rows), most_pairs=most_pairs, finish=finish, outputs=outputs
        )

    def _most_pairs(self, device: CudaDevice, grey: DeviceArray, *, lanes: int = LANES) -> int:
        """Return the largest number of pairs of a batch, with `lanes` batches on the device."""
        budget = self.memory_bytes or int(_FRACTION_OF_FREE * device.free_bytes()) // self.callers
        each = bytes_per_pair(grey.shape[1:], self.params, frame_bytes=grey.itemsize)
        return max(1, min(MOST_PAIRS, budget // (lanes * each)))


def _flow_and_iterations(result: BatchResult) -> tuple[DeviceArray, ...]:
    return result.flow, result.iterations


def load(
    params: TVL1Params,
    *,
    gpu: int | None = None,
    memory_bytes: int | None = None,
    callers: int = 1,
    tile: TileShape | None = None,
    method: Method = DEFAULT_METHOD,
) -> CudaSolver:
    """Return the CUDA engine as a solver.

    Parameters
    ----------
    params : TVL1Params
    gpu : int, optional
        Index among the GPUs that CUDA shows to this process; default: the first that can be used.
    memory_bytes : int, optional
        Most device memory that one call takes; default: four fifths of what is free.
    callers : int
        Calls at once that share the memory that is free.
    tile : TileShape, optional
    method : {"tile", "cluster"}

    Raises
    ------
    BackendUnavailableError
        No cupy, driver, GPU or NVRTC here, a GPU too old, or one that failed in this process; the
        message names the remedy.
    InvalidParameterError
        memory_bytes < 1, no such method, or $FLOWKIT_GPU_PATIENCE is no number above 0.
    """
    if memory_bytes is not None:
        check_at_least("memory_bytes", memory_bytes, 1)
    check_choice("method", method, get_args(Method))
    patience_seconds()  # a wrong $FLOWKIT_GPU_PATIENCE is an error now, not in a wait
    return CudaSolver(
        params=params,
        gpu=_first_usable() if gpu is None else _usable(gpu),
        memory_bytes=memory_bytes,
        callers=callers,
        tile=tile or TileShape(),
        method=method,
    )


def _usable(gpu: int) -> int:
    """Return a GPU's index; raise BackendUnavailableError if it cannot be used here."""
    fault = open_device(gpu).faults.fault
    if fault is not None:
        raise BackendUnavailableError(f"cuda: {fault}") from fault
    return gpu


def _first_usable() -> int:
    """Return the index of the first GPU that can be used; raise the first one's error if none can."""
    first: BackendUnavailableError | None = None
    for gpu in range(max(1, count_gpus())):
        try:
            return _usable(gpu)
        except BackendUnavailableError as error:
            first = first or error
    assert first is not None
    raise first
