"""Batches of frames on the host through the device: split, sent, solved and brought back.

Each batch runs on a stream of its own, driven by a thread of its own: while one is being solved,
another is copied in or out. Events time each stage; the host waits only for the batch's end.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import GpuMemoryError
from flowkit.tvl1.cuda.batch import BatchResult, BatchSolver
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray

LANES = 3
"""Batches on the device at once: one copied in, one in work, one copied out."""

MOST_PAIRS = 256
"""Of one batch: enough to fill the largest GPU several times over on the smallest level."""

STAGES = ("upload", "solve", "download")
"""Of a batch, by the events between them; what `finish` enqueues counts as solving."""

_SPARSE = 2
"""Frames for each one that a pair names, from which on copying those is cheaper than a pyramid of all."""

Finish = Callable[[BatchResult], tuple[DeviceArray, ...]]
"""Returns the output arrays of a solved batch, pairs along the first axis."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some of the pairs: their rows, the frames that they name, and the pairs among those frames."""

    rows: slice
    frames: NDArray[np.intp]
    pairs: NDArray[np.int32]


def split(pairs: NDArray[np.int32], rows: slice, most: int) -> Iterator[Batch]:
    """Yield batches of at most `most` of the pairs in `rows`."""
    for start in range(rows.start, rows.stop, most):
        part = slice(start, min(start + most, rows.stop))
        frames, within = np.unique(pairs[part], return_inverse=True)
        local = within.reshape(-1, 2).astype(np.int32)
        yield Batch(rows=part, frames=frames.astype(np.intp), pairs=local)


def run_batches(
    solver: BatchSolver,
    device: CudaDevice,
    work: tuple[NDArray[np.generic], NDArray[np.int32]],
    *,
    most_pairs: int,
    finish: Finish,
    outputs: Sequence[NDArray[np.generic]],
) -> dict[str, float]:
    """Solve all pairs, and copy the arrays of `finish` of each batch into `outputs`.

    Where memory runs out, the batches that failed are run again at half the size, one at a time,
    with a warning.

    Parameters
    ----------
    solver : BatchSolver
    device : CudaDevice
    work : (frames, pairs)
        As `check_batch` returns them.
    most_pairs : int
        Of one batch.
    finish : callable
    outputs : sequence of arrays
        One for each array of `finish`, with the pairs along the first axis.

    Returns
    -------
    dict
        Seconds of each of STAGES, summed over the batches; those of batches side by side overlap.

    Raises
    ------
    GpuMemoryError
        A single pair does not fit.
    GpuError
        The GPU failed.
    """
    frames, pairs = work
    most_pairs = min(most_pairs, len(pairs))
    waiting, lanes, seconds = [slice(0, len(pairs))], LANES, collections.Counter[str]()

    def run(batch: Batch) -> dict[str, float] | None:
        return _run_one(solver, device, frames, batch, finish=finish, outputs=outputs)

    while True:
        batches = [batch for rows in waiting for batch in split(pairs, rows, most_pairs)]
        took = _in_threads(run, device, batches, lanes)
        for each in took:
            seconds.update(each or {})
        waiting = [batch.rows for batch, each in zip(batches, took, strict=True) if each is None]
        if not waiting:
            return dict(seconds)
        most_pairs, lanes = _halve(most_pairs, frames.shape[1:], device), 1


def _halve(most_pairs: int, size: tuple[int, ...], device: CudaDevice) -> int:
    if most_pairs == 1:
        raise GpuMemoryError(
            f"the GPU has no memory for one pair of {size[1]}x{size[0]} px, or the host no pinned memory for "
            "its copies; free some, allow more, or use backend 'cpu'"
        )
    with device.faults.boundary():
        device.release()
    warnings.warn(
        f"GPU memory ran out, or pinned memory: batches are now {most_pairs // 2} pairs, half of before",
        RuntimeWarning,
        stacklevel=5,
    )
    return most_pairs // 2


def run_in_place(
    solver: BatchSolver,
    device: CudaDevice,
    work: tuple[DeviceArray, NDArray[np.int32]],
    *,
    most_pairs: int,
) -> DeviceArray:
    """Solve all pairs of frames on the device, on the current stream; return the flow there.

    Frames are copied only where few of many are named. Batches that fail for want of memory are
    run again at half the size.

    Parameters
    ----------
    solver : BatchSolver
    device : CudaDevice
    work : (frames, pairs)
        Frames as `BatchSolver.solve` takes them; pairs on the host.
    most_pairs : int
        Of one batch.

    Returns
    -------
    float32 device array, (m, 2, H, W)

    Raises
    ------
    GpuMemoryError
        A single pair does not fit.
    GpuError
        The GPU failed.
    """
    frames, pairs = work
    # What the owner has enqueued before may take any time: no deadline counts it.
    device.faults.wait(device.event(), for_others=True)
    flow = device.empty((len(pairs), 2, *frames.shape[1:]), np.float32)
    done = 0
    while done < len(pairs):
        batch = next(split(pairs, slice(done, len(pairs)), most_pairs))
        try:
            with device.faults.boundary(solver.work_seconds(len(batch.pairs))):
                used, local = _frames_in_place(device, frames, batch)
                solver.solve(used, local, flow[batch.rows])
        except GpuMemoryError:
            most_pairs = _halve(most_pairs, frames.shape[1:], device)
            continue
        done = batch.rows.stop
    return flow


def _frames_in_place(
    device: CudaDevice, frames: DeviceArray, batch: Batch
) -> tuple[DeviceArray, NDArray[np.int32]]:
    """Return the frames of a batch and its pairs among them: a view where they are close together."""
    first, last = int(batch.frames[0]), int(batch.frames[-1])
    if last + 1 - first > _SPARSE * len(batch.frames):
        return device.take(frames, batch.frames), batch.pairs
    return frames[first : last + 1], (batch.frames[batch.pairs] - first).astype(np.int32)


def _in_threads(
    run: Callable[[Batch], dict[str, float] | None], device: CudaDevice, batches: Sequence[Batch], lanes: int
) -> list[dict[str, float] | None]:
    if len(batches) == 1 or lanes == 1:
        return [run(batch) for batch in batches]
    workers = min(lanes, len(batches))
    with concurrent.futures.ThreadPoolExecutor(workers, initializer=device.enter_thread) as pool:
        return list(pool.map(run, batches))


def _run_one(
    solver: BatchSolver,
    device: CudaDevice,
    frames: NDArray[np.generic],
    batch: Batch,
    *,
    finish: Finish,
    outputs: Sequence[NDArray[np.generic]],
) -> dict[str, float] | None:
    """Run a batch and return the seconds of its stages, or None if memory ran out."""
    try:
        with device.faults.boundary(solver.work_seconds(len(batch.pairs))), device.own_stream():
            staged = device.pinned((len(batch.frames), *frames.shape[1:]), frames.dtype)
            np.take(frames, batch.frames, axis=0, out=staged)
            marks = [device.mark()]
            uploaded = device.upload(staged)
            marks.append(device.mark())
            made = finish(solver.solve(uploaded, batch.pairs))
            marks.append(device.mark())
            landed = [device.pinned(array.shape, array.dtype) for array in made]
            for host, array in zip(landed, made, strict=True):
                device.download_into(host, array)
            marks.append(device.mark())
        with device.faults.boundary():
            around = zip(STAGES, itertools.pairwise(marks), strict=True)
            seconds = {stage: device.seconds_between(*ends) for stage, ends in around}
    except GpuMemoryError:
        return None
    for host, output in zip(landed, outputs, strict=True):
        output[batch.rows] = host
    return seconds
