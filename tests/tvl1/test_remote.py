"""Servers and their clients, with an engine of the CPU behind them: no GPU is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.remote import RemoteSolver, ServerConfig, Servers
from flowkit.tvl1.server import Mixer, Request, mixed

PARAMS = TVL1Params(warps=2, iterations=20)
ENGINE = choose_backend("auto", PARAMS).solver


def greys(n: int, height: int = 20, width: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (n, height, width), dtype=np.uint8)


def forward(n: int) -> NDArray[np.int32]:
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=1).astype(np.int32)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers([ServerConfig(backend=ENGINE.name)] * 2, PARAMS) as running:
        yield running


def test_a_remote_engine_gives_the_bits_of_a_local_one(servers: Servers) -> None:
    solver = RemoteSolver(servers.addresses)
    assert (solver.name, solver.device) == (ENGINE.name, ENGINE.device)
    for n, height, width in ((3, 20, 24), (9, 33, 17), (2, 16, 16)):
        frames, pairs = greys(n, height, width), forward(n)
        assert np.array_equal(solver.flow_batch(frames, pairs), ENGINE.flow_batch(frames, pairs))


def test_many_threads_and_sizes_at_once_get_their_own_flow(servers: Servers) -> None:
    solver = RemoteSolver(servers.addresses)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        frames, pairs = greys(3, 20 + seed % 2, 24, seed), forward(3)
        if not np.array_equal(solver.flow_batch(frames, pairs), ENGINE.flow_batch(frames, pairs)):
            wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong


def test_a_server_that_ends_is_replaced_by_the_next(servers: Servers) -> None:
    with Servers([ServerConfig(backend=ENGINE.name)], PARAMS) as doomed:
        solver = RemoteSolver([*doomed.addresses, *servers.addresses])
        frames, pairs = greys(3), forward(3)
        expected = ENGINE.flow_batch(frames, pairs)
        assert np.array_equal(solver.flow_batch(frames, pairs), expected)
    assert np.array_equal(solver.flow_batch(frames, pairs), expected)


def test_when_no_server_is_left_the_error_says_so() -> None:
    with Servers([ServerConfig(backend=ENGINE.name)], PARAMS) as doomed:
        solver = RemoteSolver(doomed.addresses)
    with pytest.raises(BackendError, match="no engine is left"):
        solver.flow_batch(greys(2), forward(2))


def test_a_server_that_cannot_start_gives_its_cause(servers: Servers) -> None:
    with pytest.raises(BackendUnavailableError, match="nonsense"):
        Servers([ServerConfig(backend="nonsense")], PARAMS)
    with Servers([ServerConfig(backend="nonsense"), ServerConfig(backend=ENGINE.name)], PARAMS) as some:
        assert len(some.addresses) == 1
        assert "nonsense" in some.failed[0]


class Recording:
    """A solver that waits for `go` and keeps the sizes of its batches."""

    pairs_per_call = 6

    def __init__(self, fault: Exception | None = None) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.fault = fault

    def flow_batch(
        self, frames: NDArray[np.uint8], pairs: NDArray[np.int32], *, threads: int = 1
    ) -> NDArray[np.float32]:
        self.go.wait(timeout=10)
        self.batches.append(len(pairs))
        if self.fault is not None:
            raise self.fault
        # Each pair's flow tells which frames it was given.
        return np.stack([np.full((2, *frames.shape[1:]), frames[to, 0, 0], np.float32) for _, to in pairs])


def request(value: int, n: int = 3, height: int = 4) -> Request:
    frames = np.full((n, height, 5), value, np.uint8)
    return Request(frames=frames, pairs=forward(n), flow=np.zeros((n - 1, 2, height, 5), np.float32))


def submit_all(mixer: Mixer, requests: list[Request]) -> list[threading.Thread]:
    threads = [threading.Thread(target=mixer.submit, args=(r,)) for r in requests]
    for thread in threads:
        thread.start()
    return threads


def test_waiting_requests_of_one_size_become_one_batch_within_the_limit() -> None:
    solver = Recording()
    mixer = Mixer(solver)  # type: ignore[arg-type]
    requests = [request(10 + k, height=4 if k != 3 else 7) for k in range(10)]
    threads = submit_all(mixer, requests)
    solver.go.set()
    for thread in threads:
        thread.join(timeout=10)
    assert all(np.all(r.flow == 10 + k) for k, r in enumerate(requests))
    assert sum(solver.batches) == 20
    assert max(solver.batches) <= 6
    # Two go at once as they come; the others gather meanwhile.
    assert len(solver.batches) < 10


def test_a_failing_engine_answers_every_request_of_its_batch() -> None:
    for fault, refused in ((ZeroDivisionError("x"), False), (BackendError("too small"), True)):
        solver = Recording(fault)
        solver.go.set()
        one = request(1)
        Mixer(solver).submit(one)  # type: ignore[arg-type]
        assert one.error
        assert one.refused is refused


def test_mixed_pairs_point_at_their_own_frames() -> None:
    frames, pairs = mixed([request(1), request(2, n=4)])
    assert frames.shape[0] == 7
    assert pairs.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5], [5, 6]]
