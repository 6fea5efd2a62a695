"""Faults of servers and of the GPUs behind them: each request ends in time, and others take over."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, BackendUnavailableError, GpuError, GpuMemoryError
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.engine import EngineInfo, Solver, codes_solver
from flowkit.tvl1.reference import solver as reference
from flowkit.tvl1.server import client as server_client
from flowkit.tvl1.server import shared_memory
from flowkit.tvl1.server.client import RemoteSolver, ServerConfig, Servers
from flowkit.tvl1.server.server import Batcher, Request, serve_client
from tests.make.cuda import QUICK
from tests.make.deadline import ends_in_time
from tests.make.greys import forward, greys
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, Fault, gpus_in_other_processes, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

ILLEGAL_ADDRESS = Fault(kind="status", kernel="flowkit_tile", after=3)


def started(monkeypatch: pytest.MonkeyPatch, *faults: tuple[Fault, ...]) -> Servers:
    """Return servers, one for each GPU with these faults."""
    gpus_in_other_processes(monkeypatch, faults)
    configs = [ServerConfig(backend="cuda", gpu=k) for k in range(len(faults))]
    return Servers(configs, QUICK)


@pytest.fixture
def expected(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """The flow of a GPU without faults; its kernels are compiled then."""
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "20")
    with started(monkeypatch, ()) as servers:
        return RemoteSolver(servers.addresses).flow_batch(greys(4), forward(4))


@needs_compiler
@pytest.mark.parametrize(
    "fault",
    [
        ILLEGAL_ADDRESS,
        Fault(kind="refused", status=701, kernel="flowkit_tile"),
        Fault(kind="hang", kernel="flowkit_linearise"),
        Fault(kind="blocked", kernel="flowkit_tile", after=1),
    ],
    ids=lambda fault: fault.kind,
)
def test_device_fault_of_one_gpu_is_taken_over_by_the_next_with_its_cause(
    fault: Fault,
    expected: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The stand-in computes inside of its calls, on cores that others use too.
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "2" if fault.kind in ("hang", "blocked") else "20")
    with started(monkeypatch, (fault,), ()) as servers:
        solver = RemoteSolver(servers.addresses)
        flow = ends_in_time(lambda: solver.flow_batch(greys(4), forward(4)))
        np.testing.assert_array_equal(flow, expected)
        (failure,) = solver.failures
        assert failure.startswith("GPU 0 (Emulated GPU)")
        assert "flowkit_" in failure
        # The server says so too, and ends by itself: nobody is sent to a GPU that failed.
        broken = servers._processes[0]
        assert ends_in_time(broken.wait) == 1
    assert f"flowkit: {failure}" in capfd.readouterr().err


@needs_compiler
def test_device_fault_of_the_only_gpu_is_an_error_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(monkeypatch, (ILLEGAL_ADDRESS,)) as servers:
        solver = RemoteSolver(servers.addresses)
        with pytest.raises(BackendError, match=r"no engine is left: GPU 0 .*cudaErrorIllegalAddress"):
            ends_in_time(lambda: solver.flow_batch(greys(4), forward(4)), seconds=10)


@needs_compiler
def test_device_fault_of_the_only_gpu_leaves_the_work_to_the_last_resort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin: Solver = reference.load(QUICK)
    with started(monkeypatch, (ILLEGAL_ADDRESS,)) as servers:
        solver = RemoteSolver(servers.addresses, last_resort=lambda: twin)
        assert solver.computes_elsewhere()
        made = ends_in_time(
            lambda: solver.codes_batch(greys(4), forward(4), quantizer=FIELD_SCALE), seconds=10
        )
    assert made.engine == EngineInfo.of(twin)
    assert not solver.computes_elsewhere()
    here = codes_solver(twin).codes_batch(greys(4), forward(4), quantizer=FIELD_SCALE)
    np.testing.assert_array_equal(made.codes, here.codes)
    np.testing.assert_array_equal(
        solver.flow_batch(greys(3), forward(3)), twin.flow_batch(greys(3), forward(3))
    )
    # A client that comes later finds no server, and the last resort at once.
    late = RemoteSolver(["gone.socket"], last_resort=lambda: twin)
    assert (late.name, late.device) == ("reference", "cpu")


def test_device_fault_of_a_driver_that_is_absent_is_a_server_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(BackendUnavailableError, match=r"cuda on GPU 0: cuda: cupy does not import"):
        ends_in_time(lambda: Servers([ServerConfig(backend="cuda")], QUICK))


@pytest.mark.parametrize("says", ["", "half a line"])
def test_device_fault_of_a_server_that_does_not_start_is_given_up(
    says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "START_SECONDS", 0.5)
    start = f"import time; print({says!r}, end='', flush=True); time.sleep(60); "
    monkeypatch.setattr(server_client, "_START", start)
    with pytest.raises(BackendUnavailableError, match=r"did not start within 0\.5 s; see nvidia-smi"):
        ends_in_time(lambda: Servers([ServerConfig(backend="cuda")], QUICK))


def test_device_fault_of_a_server_that_falls_silent_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_memory, "SILENCE_SECONDS", 1.0)
    frames, pairs = greys(3), forward(3)
    engine = cpu.load(QUICK)
    with Servers([ServerConfig(backend="cpu"), ServerConfig(backend="cpu")], QUICK) as servers:
        solver = RemoteSolver(servers.addresses)
        solver.flow_batch(frames, pairs)
        os.kill(servers._processes[0].pid, signal.SIGSTOP)
        flow = ends_in_time(lambda: solver.flow_batch(frames, pairs))
        np.testing.assert_array_equal(flow, engine.flow_batch(frames, pairs))
        assert solver.failures == (f"{engine.device}: the server's process has not answered for 1 s",)


def test_a_server_at_work_is_waited_for_longer_than_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends that it is alive: a long batch is no fault."""
    monkeypatch.setattr(shared_memory, "SILENCE_SECONDS", 2.5)
    two = np.random.default_rng(0).integers(0, 256, (2, 120, 160), dtype=np.uint8)
    with Servers([ServerConfig(backend="reference")], QUICK) as servers:
        solver = RemoteSolver(servers.addresses)
        solver.flow_batch(two, forward(2))  # the engine loads
        began = time.perf_counter()
        solver.flow_batch(two, forward(2))
        pairs = 2 + math.ceil(2 * 2.5 / (time.perf_counter() - began))  # twice as long as the silence
        began = time.perf_counter()
        solver.flow_batch(two, np.tile(forward(2), (pairs, 1)))
        assert time.perf_counter() - began > 2.5
    assert not solver.failures


class Failing:
    """An engine whose GPU fails at the second batch."""

    name, device, version, deviations, pairs_per_call = "failing", "a GPU", "1", (), 16

    def __init__(self) -> None:
        self.calls = 0

    def flow_batch(
        self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, threads: int = 1
    ) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls > 1:
            raise GpuError("GPU 0 (a GPU) failed")
        return np.zeros((len(pairs), 2, *frames.shape[1:]), np.float32)


def test_device_fault_on_entering_a_thread_ends_the_batcher() -> None:
    class Refusing(Failing):
        def enter_thread(self) -> None:
            raise GpuMemoryError("no memory for a context")

        def failure(self) -> GpuError | None:
            return None

    batcher = Batcher(Refusing())  # type: ignore[arg-type]
    fields = np.zeros((1, 2, *greys(2).shape[1:]), np.float32)
    request = Request(frames=greys(2), pairs=forward(2), fields=fields)
    ends_in_time(lambda: batcher.submit(request))
    assert request.response.error == "no memory for a context"
    assert batcher.ended.is_set()


def test_device_fault_ends_a_batcher_for_requests_that_wait_and_later_ones() -> None:
    solver = Failing()
    batcher = Batcher(solver)  # type: ignore[arg-type]
    requests = [
        Request(frames=greys(2), pairs=forward(2), fields=np.zeros((1, 2, *greys(2).shape[1:]), np.float32))
        for _ in range(3)
    ]
    for request in requests:
        ends_in_time(lambda request=request: batcher.submit(request))  # type: ignore[misc]
    assert [request.response.error for request in requests] == ["", *["GPU 0 (a GPU) failed"] * 2]
    assert not any(request.response.refused for request in requests)
    assert batcher.ended.is_set()
    assert solver.calls == 2


def test_device_fault_of_a_process_that_cannot_be_killed_ends_the_wait_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_client, "_END_SECONDS", 0.1)
    servers = Servers([ServerConfig(backend="cpu")], QUICK)
    process = servers._processes[0]
    monkeypatch.setattr(process, "kill", lambda: None)
    with pytest.warns(RuntimeWarning, match=r"was killed and does not end: a driver holds it"):
        ends_in_time(servers.close)
    monkeypatch.undo()
    process.kill()
    process.wait()


def test_a_thread_that_ends_leaves_no_memory_behind() -> None:
    """Each video has threads of its own."""

    def shared() -> int:
        links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return sum("memfd:flowkit" in link for link in links)

    with Servers([ServerConfig(backend="cpu")], QUICK) as servers:
        solver = RemoteSolver(servers.addresses)
        before = shared()
        for _ in range(5):
            thread = threading.Thread(target=solver.flow_batch, args=(greys(3), forward(3)))
            thread.start()
            thread.join()
        gc.collect()
        assert shared() == before


def test_a_machine_without_descriptors_is_no_fault_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(24, "Too many open files")

    with Servers([ServerConfig(backend="cpu")], QUICK) as servers:
        solver = RemoteSolver(servers.addresses)
        solver._disconnect()
        with monkeypatch.context() as patch:
            patch.setattr(os, "memfd_create", refuse)
            with pytest.raises(
                BackendError, match=r"no memory to share with a server: .*Too many open files"
            ):
                solver.flow_batch(greys(3), forward(3))
        assert not solver.failures
        assert solver.flow_batch(greys(3), forward(3)).shape[0] == 2


def test_an_interrupted_request_leaves_nothing_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Servers([ServerConfig(backend="cpu")], QUICK) as servers:
        solver = RemoteSolver(servers.addresses)
        others = greys(3, seed=5)
        expected = solver.codes_batch(others, forward(3), quantizer=FIELD_SCALE)

        def interrupt(connection: object) -> object:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(server_client, "receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                solver.codes_batch(greys(3), forward(3), quantizer=FIELD_SCALE)
        made = solver.codes_batch(others, forward(3), quantizer=FIELD_SCALE)
        np.testing.assert_array_equal(made.codes, expected.codes)
        np.testing.assert_array_equal(made.largest_px, expected.largest_px)


@needs_compiler
def test_device_fault_of_memory_for_one_pair_is_taken_over_and_the_server_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(memory=30_000))
    engine: Solver = reference.load(QUICK)
    batcher = Batcher(cuda.load(QUICK))
    request = Request(
        frames=greys(2), pairs=forward(2), fields=np.zeros((1, 2, *greys(2).shape[1:]), np.float32)
    )
    ends_in_time(lambda: batcher.submit(request))
    assert (request.response.too_large, request.response.refused) == (True, False)
    assert not batcher.ended.is_set()

    class Full(Failing):
        def flow_batch(
            self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, threads: int = 1
        ) -> NDArray[np.float32]:
            raise GpuMemoryError("the GPU has no memory for one pair")

    with connected(Full(), tmp_path) as address:
        solver = RemoteSolver([address], last_resort=lambda: engine)
        flow = ends_in_time(lambda: solver.flow_batch(greys(3), forward(3)), seconds=10)
        np.testing.assert_array_equal(flow, engine.flow_batch(greys(3), forward(3)))
        assert solver.unreported() == ("the GPU has no memory for one pair",)
        # The server stays, for requests that it has room for.
        assert solver.computes_elsewhere()
        with pytest.raises(BackendError, match="no memory for one pair"):
            RemoteSolver([address]).flow_batch(greys(3), forward(3))


@contextlib.contextmanager
def connected(solver: Failing, folder: Path) -> Iterator[str]:
    """Serve clients in threads of this process."""
    batcher = Batcher(solver)  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = Connection(listener.accept()[0].detach())
                    words = (connection, batcher, solver)
                    threading.Thread(target=serve_client, args=words, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield str(folder / "socket")


def test_what_a_driver_prints_at_the_start_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "_START", "print('a driver says hello'); " + server_client._START)
    with pytest.raises(
        BackendUnavailableError, match=r"printed 'a driver says hello\\n' instead of its state; see"
    ):
        Servers([ServerConfig(backend="cpu")], QUICK)


def test_an_interruption_at_the_start_ends_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    start = Servers._start

    def noted(self: Servers, *words: object) -> subprocess.Popen[str]:
        started.append(start(self, *words))  # type: ignore[arg-type]
        return started[-1]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Servers, "_start", noted)
    monkeypatch.setattr(Servers, "_await", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Servers([ServerConfig(backend="cpu")] * 2, QUICK)
    assert [process.poll() for process in started] == [-signal.SIGKILL] * 2
