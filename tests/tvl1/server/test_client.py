"""Servers and their clients, with an engine of the CPU behind them: no GPU is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, BackendUnavailableError, InvalidParameterError
from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.engine import FlowCodes, codes_solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.client import RemoteSolver, ServerConfig, Servers
from flowkit.tvl1.server.server import Batcher, Request, concatenated
from flowkit.tvl1.server.shared_memory import FLOATS, OutputForm
from tests.make.codes import rules

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


@pytest.mark.parametrize("code", ["i8", "i16", "u8"])
def test_remote_codes_are_the_local_ones_with_all_that_belongs_to_them(servers: Servers, code: str) -> None:
    frames, pairs, quantizer = greys(4), forward(4), rules(bound_px=1.0)[code]
    local = codes_solver(ENGINE).codes_batch(frames, pairs, quantizer=quantizer)
    made = RemoteSolver(servers.addresses).codes_batch(frames, pairs, quantizer=quantizer)
    assert made.codes.dtype == local.codes.dtype
    for name in ("codes", "largest_px", "clipped"):
        np.testing.assert_array_equal(getattr(made, name), getattr(local, name))
    assert (local.clipped.min() > 0) == (code == "u8")
    assert set(made.seconds) == set(local.seconds)
    assert made.seconds["solve"] > 0


def test_floats_and_codes_take_turns_on_one_connection(servers: Servers) -> None:
    """The shared memory is laid out anew for each request."""
    solver, engine = RemoteSolver(servers.addresses), codes_solver(ENGINE)
    for n in (3, 9, 2):
        frames, pairs = greys(n), forward(n)
        expected = engine.codes_batch(frames, pairs, quantizer=FIELD_SCALE).codes
        assert np.array_equal(solver.codes_batch(frames, pairs, quantizer=FIELD_SCALE).codes, expected)
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
    codes = codes_solver(ENGINE).codes_batch(frames, pairs, quantizer=FIELD_SCALE).codes
    assert np.array_equal(solver.codes_batch(frames, pairs, quantizer=FIELD_SCALE).codes, codes)


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
    threads = submit_all(batcher, requests)
    while batcher.waiting < len(requests):
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
        assert one.response.largest_px is not None
        assert one.response.clipped is not None
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
