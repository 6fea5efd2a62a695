"""The server: requests gathered to batches, each with its own response; no GPU is needed."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, InvalidParameterError
from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import load_shared
from flowkit.tvl1.engine import FlowCodes
from flowkit.tvl1.server import server
from flowkit.tvl1.server.client import RemoteSolver
from flowkit.tvl1.server.server import Batcher, Request, concatenated, serve_client
from flowkit.tvl1.server.shared_memory import FLOATS, OutputForm, connect
from tests.make.cuda import QUICK
from tests.make.greys import forward
from tests.tvl1.emulation.fake_cupy import FakeGpu, install


class Recording:
    """A solver that waits for `go` and keeps the sizes of its batches."""

    pairs_per_call = 6

    def __init__(self, fault: Exception | None = None) -> None:
        self.batches: list[int] = []
        self.coded: list[tuple[int, Quantizer]] = []
        self.go = threading.Event()
        self.fault = fault

    def flow_batch(
        self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, threads: int = 1
    ) -> NDArray[np.float32]:
        self.go.wait(timeout=10)
        self.batches.append(len(pairs))
        if self.fault is not None:
            raise self.fault
        # Each pair's flow encodes the frames it was given.
        return np.stack([np.full((2, *frames.shape[1:]), frames[to, 0, 0], np.float32) for _, to in pairs])

    def codes_batch(
        self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, quantizer: Quantizer
    ) -> FlowCodes:
        flow = self.flow_batch(frames, pairs)
        self.coded.append((len(pairs), quantizer))
        tags = flow[:, 0, 0, 0]
        if quantizer == FIELD_SCALE and (tags == SPOILED).any():
            raise InvalidParameterError("flow must be finite")
        return FlowCodes(
            codes=flow.astype(quantizer.dtype),
            scales=3 * tags,
            largest_px=tags,
            clipped=2 * tags.astype(np.int32),
            seconds={"upload": 1.0 * len(pairs), "solve": 4.0 * len(pairs)},
        )


SPOILED = 77
"""A grey value whose flow the engine cannot code."""


def request(value: int, n: int = 3, height: int = 4, form: OutputForm = FLOATS) -> Request:
    frames = np.full((n, height, 5), value, np.uint8)
    dtype = form.quantizer.dtype if form.quantizer else np.float32
    fields = np.zeros((n - 1, 2, height, 5), dtype)
    return Request(frames=frames, pairs=forward(n), fields=fields, form=form)


def submit_all(batcher: Batcher, requests: list[Request]) -> list[threading.Thread]:
    threads = [threading.Thread(target=batcher.submit, args=(r,)) for r in requests]
    for thread in threads:
        thread.start()
    return threads


def test_waiting_requests_of_one_size_become_one_batch_within_the_limit() -> None:
    solver = Recording()
    batcher = Batcher(solver)  # type: ignore[arg-type]
    requests = [request(10 + k, height=4 if k != 3 else 7) for k in range(10)]
    threads = submit_all(batcher, requests)
    solver.go.set()
    for thread in threads:
        thread.join(timeout=10)
    assert all(np.all(r.fields == 10 + k) for k, r in enumerate(requests))
    assert sum(solver.batches) == 20
    assert max(solver.batches) <= 6
    # Two go at once as they come; the others gather meanwhile.
    assert len(solver.batches) < 10


def test_a_failing_engine_answers_every_request_of_its_batch() -> None:
    for fault, refused in ((ZeroDivisionError("x"), False), (BackendError("too small"), True)):
        solver = Recording(fault)
        solver.go.set()
        one = request(1)
        Batcher(solver).submit(one)  # type: ignore[arg-type]
        assert one.response.error
        assert one.response.refused is refused


def run_together(solver: Recording, requests: list[Request]) -> None:
    """Let the requests wait for a batcher until all of them are there."""
    batcher = Batcher(solver)  # type: ignore[arg-type]
    # Both lanes are busy while the others gather.
    busy = submit_all(batcher, [request(0, n=2, height=9), request(0, n=2, height=10)])
    while batcher.waiting:
        time.sleep(0.001)
    threads = []
    for number, one in enumerate(requests, start=1):
        threads += submit_all(batcher, [one])
        while batcher.waiting < number:
            time.sleep(0.001)
    solver.go.set()
    for thread in busy + threads:
        thread.join(timeout=10)


def test_requests_are_mixed_only_with_those_that_want_the_same() -> None:
    solver = Recording()
    wide, narrow = BoundedRange(bound_px=2.0), BoundedRange(bound_px=1.0)
    wishes = [FLOATS, *(OutputForm(quantizer=rule) for rule in (FIELD_SCALE, narrow, wide))]
    requests = [request(10 + k, form=wishes[k % 4]) for k in range(8)]
    run_together(solver, requests)
    assert sorted(solver.coded, key=str) == [(4, narrow), (4, wide), (4, FIELD_SCALE)]
    assert all(np.all(r.fields == 10 + k) for k, r in enumerate(requests))


def test_each_request_gets_its_own_of_what_belongs_to_codes() -> None:
    solver, form = Recording(), OutputForm(quantizer=FIELD_SCALE)
    requests = [request(1, n=2, form=form), request(2, n=4, form=form)]
    run_together(solver, requests)
    assert solver.coded == [(4, FIELD_SCALE)]
    for one, value, pairs in zip(requests, (1, 2), (1, 3), strict=True):
        assert one.response.scales.tolist() == [3 * value] * pairs
        assert one.response.largest_px.tolist() == [value] * pairs
        assert one.response.clipped.tolist() == [2 * value] * pairs
        assert one.response.seconds == {"upload": 1.0 * pairs, "solve": 4.0 * pairs}


def test_a_request_at_fault_costs_only_itself() -> None:
    solver, form = Recording(), OutputForm(quantizer=FIELD_SCALE)
    requests = [request(value, n=2, form=form) for value in (1, SPOILED, 2)]
    run_together(solver, requests)
    assert [bool(one.response.error) for one in requests] == [False, True, False]
    assert requests[1].response.refused
    assert [int(one.fields.max()) for one in requests] == [1, 0, 2]


def test_mixed_pairs_point_at_their_own_frames() -> None:
    frames, pairs = concatenated([request(1), request(2, n=4)])
    assert frames.shape[0] == 7
    assert pairs.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5], [5, 6]]


def test_a_servers_lanes_share_the_memory_that_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    solver: Any = load_shared("cuda", QUICK, callers=server.LANES, gpu=0, memory_bytes=1001)
    assert solver.memory_bytes == math.ceil(1001 / server.LANES)
    unbounded: Any = load_shared("cuda", QUICK, callers=3)
    assert (unbounded.memory_bytes, unbounded.callers) == (None, 3)


class Noting(Recording):
    """A solver that keeps the grey values of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[list[int]] = []

    def flow_batch(
        self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, threads: int = 1
    ) -> NDArray[np.float32]:
        flow = super().flow_batch(frames, pairs, threads=threads)
        self.tags.append(np.unique(frames).tolist())
        return flow


def test_requests_that_do_not_fit_a_batch_keep_their_order() -> None:
    solver = Noting()
    run_together(solver, [request(10 + k, n=3, height=4 + k % 2) for k in range(8)])
    # Six pairs of one height at most, the oldest first; two requests of 0 kept both lanes busy.
    assert sorted(solver.tags) == [[0], [0], [10, 12, 14], [11, 13, 15], [16], [17]]


class Named(Recording):
    """A solver with what a client is sent first; it does not wait."""

    name, device, version, deviations = "named", "a device", "7", ("none",)

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__(fault)
        self.go.set()


@contextlib.contextmanager
def connected(solver: Named, folder: Path) -> Iterator[tuple[RemoteSolver, threading.Thread]]:
    """Serve one client in a thread of this process, which ends when the client's process would."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def serve() -> None:
            connection = Connection(listener.accept()[0].detach())
            serve_client(connection, Batcher(solver), solver)  # type: ignore[arg-type]

        thread = threading.Thread(target=serve)
        thread.start()
        client = RemoteSolver([str(folder / "socket")])
        try:
            yield client, thread
        finally:
            client._disconnect()
            thread.join(timeout=10)


def tagged(value: int, n: int, height: int = 4) -> NDArray[np.uint8]:
    """Frames whose grey values are `value`, `value + 1`, ..."""
    return np.repeat(np.arange(value, value + n, dtype=np.uint8), height * 5).reshape(n, height, 5)


def test_a_client_learns_the_engine_before_it_asks(tmp_path: Path) -> None:
    with connected(Named(), tmp_path) as (client, _):
        assert (client.name, client.device) == ("named", "a device")
        assert (client.version, client.deviations) == ("7", ("none",))


def test_one_client_may_ask_for_larger_and_smaller_frames_in_turn(tmp_path: Path) -> None:
    solver = Named()
    with connected(solver, tmp_path) as (client, _):
        for n, height in ((2, 4), (5, 9), (3, 2), (4, 90)):
            flow = client.flow_batch(tagged(n, n, height), forward(n))
            assert flow.shape == (n - 1, 2, height, 5)
            assert [np.unique(field).tolist() for field in flow] == [[n + k] for k in range(1, n)]
    assert solver.batches == [1, 4, 2, 3]


def test_a_client_is_served_on_after_an_error_of_its_own(tmp_path: Path) -> None:
    with connected(Named(), tmp_path) as (client, thread):
        with pytest.raises(BackendError, match="flow must be finite"):
            client.codes_batch(tagged(SPOILED - 1, 2), forward(2), quantizer=FIELD_SCALE)
        made = client.codes_batch(tagged(3, 3), forward(3), quantizer=FIELD_SCALE)
        assert made.largest_px.tolist() == [4, 5]
        assert thread.is_alive()


def test_a_server_ends_its_thread_when_the_client_closes_the_connection(tmp_path: Path) -> None:
    with connected(Named(), tmp_path) as (client, thread):
        client._disconnect()
        thread.join(timeout=10)
        assert not thread.is_alive()


@contextlib.contextmanager
def started(path: Path, params: str) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from flowkit.tvl1.server.server import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, str(path), "reference", "0", "0", params]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_server_process_listens_after_one_line_and_ends_with_its_standard_input(tmp_path: Path) -> None:
    with started(tmp_path / "socket", QUICK.to_json()) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"device": "cpu"}
        connect(str(tmp_path / "socket")).close()
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


def test_a_server_process_that_cannot_start_prints_its_cause_and_ends_by_itself(tmp_path: Path) -> None:
    with started(tmp_path / "socket", '{"tau": -1}') as process:
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert "tau" in json.loads(process.stdout.readline())["error"]
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
    assert not (tmp_path / "socket").exists()
