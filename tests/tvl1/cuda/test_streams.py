"""Batches through the lanes of an emulated GPU, and in its own memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, GpuMemoryError
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda.batch import BatchResult, BatchSolver
from flowkit.tvl1.cuda.device import CudaDevice, DeviceArray
from flowkit.tvl1.cuda.plan import bytes_per_pair
from flowkit.tvl1.cuda.streams import STAGES, run_batches, run_in_place, split
from tests.make.cuda import PAIRS, QUICK, SMALL_TILE, solve
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


@needs_compiler
def test_emulated_shortage_of_memory_halves_the_batches_and_says_so(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    expected = solve(frames, PAIRS)
    each = bytes_per_pair((20, 34), QUICK, frame_bytes=4)
    install(monkeypatch, FakeGpu(memory=4 * each, eager=True))
    with pytest.warns(RuntimeWarning, match="memory ran out.*: batches are now 3 pairs"):
        flow = solve(frames, PAIRS, memory_bytes=18 * each)
    np.testing.assert_array_equal(flow, expected)


@needs_compiler
def test_emulated_frames_beyond_the_memory_are_an_error(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(memory=2 * 20 * 34 * 40))
    with pytest.raises(BackendError, match=r"no memory for one pair of 34x20 px.*; .*backend 'cpu'"):
        solve(frames, PAIRS[:1])


@pytest.fixture
def device(gpu: FakeGpu) -> CudaDevice:
    return cuda_device.open_device(0)


def some_pairs(seed: int, n: int, frames: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, frames, (n, 2)).astype(np.int32)


@pytest.mark.parametrize("most", [1, 2, 7, 11, 100])
@pytest.mark.parametrize("rows", [slice(0, 11), slice(3, 10)])
def test_split_pairs_are_each_in_one_batch_with_the_frames_that_they_name(rows: slice, most: int) -> None:
    pairs = some_pairs(0, 11, 6)
    batches = list(split(pairs, rows, most))
    assert [row for batch in batches for row in range(11)[batch.rows]] == list(range(11)[rows])
    assert {len(batch.pairs) for batch in batches[:-1]} <= {most}
    assert len(batches[-1].pairs) <= most
    for batch in batches:
        np.testing.assert_array_equal(batch.frames[batch.pairs], pairs[batch.rows])
        assert batch.frames.tolist() == sorted(set(pairs[batch.rows].ravel().tolist()))


def test_no_pairs_make_no_batch() -> None:
    assert not list(split(np.zeros((0, 2), np.int32), slice(0, 0), 5))


class Gathering:
    """A solver whose u is the first frame's grey values and whose v is the second's.

    Where more than `room` pairs are asked for at once, memory runs out.
    """

    def __init__(self, device: CudaDevice, room: int = 100) -> None:
        self._device, self._room = device, room
        self.solved: list[int] = []
        self.frames: list[DeviceArray] = []

    def work_seconds(self, pairs: int) -> float:
        return 0.1 * pairs

    def solve(
        self, frames: DeviceArray, pairs: NDArray[np.int32], out: DeviceArray | None = None
    ) -> BatchResult:
        if len(pairs) > self._room:
            raise GpuMemoryError("no room")
        self.solved.append(len(pairs))
        self.frames.append(frames)
        flow = out
        if flow is None:
            flow = self._device.empty((len(pairs), 2, *frames.shape[1:]), np.float32)
        self._device.cupy.cuda.get_current_stream().add(lambda: np.copyto(flow, frames[pairs]))
        return BatchResult(flow=flow, iterations=self._device.zeros((len(pairs), 1), np.int32))


def tags(n: int) -> NDArray[np.float32]:
    """Frames of 3x2 px, the k-th full of k."""
    return np.repeat(np.arange(n, dtype=np.float32), 6).reshape(n, 3, 2)


def run_tagged(
    solver: Gathering, device: CudaDevice, pairs: NDArray[np.int32], most_pairs: int
) -> tuple[NDArray[np.float32], dict[str, float]]:
    flow = np.full((len(pairs), 2, 3, 2), np.nan, np.float32)
    solving: Any = solver
    work = (tags(10), pairs)
    seconds = run_batches(
        solving,
        device,
        work,
        most_pairs=most_pairs,
        finish=lambda result: (result.flow,),
        outputs=(flow,),
    )
    return flow, seconds


@pytest.mark.parametrize("most_pairs", [1, 4, 23, 50])
def test_each_pairs_output_is_in_its_own_row_however_they_are_batched(
    most_pairs: int, device: CudaDevice
) -> None:
    pairs, solver = some_pairs(1, 23, 10), Gathering(device)
    flow, seconds = run_tagged(solver, device, pairs, most_pairs)
    np.testing.assert_array_equal(flow, tags(10)[pairs])
    assert sum(solver.solved) == 23
    assert max(solver.solved) <= most_pairs
    assert tuple(seconds) == STAGES
    assert min(seconds.values()) >= 0


def test_only_the_batches_that_failed_are_run_again_at_half_the_size(device: CudaDevice) -> None:
    pairs, solver = some_pairs(2, 19, 10), Gathering(device, room=3)
    # Of 19 pairs in batches of 8 the last one has 3 and fits.
    with pytest.warns(RuntimeWarning, match=r"batches are now \d pairs, half of before") as warned:
        flow, _ = run_tagged(solver, device, pairs, 8)
    np.testing.assert_array_equal(flow, tags(10)[pairs])
    assert [str(warning.message).split()[-5] for warning in warned] == ["4", "2"]
    assert solver.solved == [3, *[2] * 8]


def test_a_pair_for_which_there_is_no_memory_is_an_error_of_its_size(device: CudaDevice) -> None:
    pairs, message = some_pairs(3, 2, 10), r"no memory for one pair of 2x3 px.*; .*or use backend 'cpu'"
    with pytest.raises(BackendError, match=message):
        run_tagged(Gathering(device, room=0), device, pairs, 1)
    solver: Any = Gathering(device, room=0)
    with pytest.raises(BackendError, match=message):
        run_in_place(solver, device, (device.upload(tags(10)), pairs), most_pairs=1)


def test_other_errors_of_a_batch_are_raised_as_they_are(device: CudaDevice) -> None:
    def fail(result: BatchResult) -> tuple[DeviceArray, ...]:
        raise ZeroDivisionError("in finish")

    solver: Any = Gathering(device)
    work = (tags(10), some_pairs(4, 6, 10))
    with pytest.raises(ZeroDivisionError, match="in finish"):
        run_batches(solver, device, work, most_pairs=2, finish=fail, outputs=())


def run_tagged_in_place(
    solver: Gathering, device: CudaDevice, frames: DeviceArray, pairs: NDArray[np.int32], most_pairs: int
) -> NDArray[np.float32]:
    solving: Any = solver
    flow: NDArray[np.float32] = run_in_place(solving, device, (frames, pairs), most_pairs=most_pairs).get()
    return flow


@pytest.mark.parametrize("most_pairs", [1, 4, 23])
def test_frames_on_the_device_give_each_pair_its_own_row(most_pairs: int, device: CudaDevice) -> None:
    pairs, solver = some_pairs(5, 23, 10), Gathering(device)
    flow = run_tagged_in_place(solver, device, device.upload(tags(10)), pairs, most_pairs)
    np.testing.assert_array_equal(flow, tags(10)[pairs])
    assert solver.solved == [most_pairs] * (23 // most_pairs) + [23 % most_pairs] * bool(23 % most_pairs)


@pytest.mark.parametrize(
    ("pairs", "copied", "frames"),
    [([[3, 4], [4, 5]], False, 3), ([[6, 3]], False, 4), ([[3, 7]], True, 2), ([[0, 9], [9, 0]], True, 2)],
    ids=["neighbours", "half named", "fewer named", "far apart"],
)
def test_frames_on_the_device_are_copied_only_where_few_of_many_are_named(
    pairs: list[list[int]], copied: bool, frames: int, device: CudaDevice
) -> None:
    uploaded, solver = device.upload(tags(10)), Gathering(device)
    flow = run_tagged_in_place(solver, device, uploaded, np.array(pairs, np.int32), 10)
    np.testing.assert_array_equal(flow, tags(10)[pairs])
    (used,) = solver.frames
    assert len(used) == frames
    assert np.shares_memory(used, uploaded) is not copied


def test_frames_on_the_device_go_on_at_half_the_size_when_memory_runs_out(device: CudaDevice) -> None:
    pairs, solver = some_pairs(6, 9, 10), Gathering(device, room=3)
    with pytest.warns(RuntimeWarning, match=r"batches are now (4|2) pairs, half of before"):
        flow = run_tagged_in_place(solver, device, device.upload(tags(10)), pairs, 8)
    np.testing.assert_array_equal(flow, tags(10)[pairs])
    assert solver.solved == [2, 2, 2, 2, 1]


@needs_compiler
def test_emulated_batches_on_streams_and_in_place_have_the_same_bits(
    frames: NDArray[np.float32], device: CudaDevice
) -> None:
    solver = BatchSolver(device, QUICK, (20, 34), tile=SMALL_TILE, method="tile")
    pairs = PAIRS.astype(np.int32)
    flow = np.empty((len(pairs), 2, 20, 34), np.float32)
    run_batches(
        solver,
        device,
        (frames, pairs),
        most_pairs=2,
        finish=lambda result: (result.flow,),
        outputs=(flow,),
    )
    there = run_in_place(solver, device, (device.upload(frames), pairs), most_pairs=4)
    np.testing.assert_array_equal(there.get(), flow)
