"""Servers and their clients, with an engine of the CPU behind them: no GPU is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.engine import codes_solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.client import RemoteSolver, ServerConfig, Servers
from tests.make.codes import rules
from tests.make.greys import forward, greys

PARAMS = TVL1Params(warps=2, iterations=20)
ENGINE = choose_backend("auto", PARAMS).solver


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


@pytest.mark.parametrize("code", ["q8", "i8", "i16", "u8"])
def test_remote_codes_are_the_local_ones_with_all_that_belongs_to_them(servers: Servers, code: str) -> None:
    frames, pairs, quantizer = greys(4), forward(4), rules(bound_px=1.0)[code]
    local = codes_solver(ENGINE).codes_batch(frames, pairs, quantizer=quantizer)
    made = RemoteSolver(servers.addresses).codes_batch(frames, pairs, quantizer=quantizer)
    assert made.codes.dtype == local.codes.dtype
    for name in ("codes", "scales", "largest_px", "clipped"):
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
