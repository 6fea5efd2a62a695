"""Arrays in memory that two sides of a connection map, and the connection itself."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from flowkit.tvl1.server.shared_memory import MappedMemory, SharedMemory, connect
from tests.make.greys import greys


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    near, far = multiprocessing.Pipe()
    with near, far:
        yield near, far


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    made = SharedMemory()
    yield made
    made.close()


def share(memory: SharedMemory, mapped: MappedMemory, ends: tuple[Connection, Connection]) -> None:
    memory.announce(ends[0])
    mapped.receive(ends[1], memory.size)


def test_each_side_reads_the_others_values(memory: SharedMemory, ends: tuple[Connection, Connection]) -> None:
    frames, mapped = greys(3), MappedMemory()
    memory.reserve(2 * frames.nbytes)
    memory.view(0, frames.shape, frames.dtype)[...] = frames
    share(memory, mapped, ends)
    np.testing.assert_array_equal(mapped.view(0, frames.shape, frames.dtype), frames)
    mapped.view(frames.nbytes, (5, 7), np.float32)[...] = np.arange(35).reshape(5, 7)
    expected = np.arange(35, dtype=np.float32).reshape(5, 7)
    np.testing.assert_array_equal(memory.view(frames.nbytes, (5, 7), np.float32), expected)
    np.testing.assert_array_equal(mapped.view(0, frames.shape, frames.dtype), frames)


def test_grown_memory_keeps_its_values_and_asks_to_be_announced_again(
    memory: SharedMemory, ends: tuple[Connection, Connection]
) -> None:
    mapped = MappedMemory()
    memory.reserve(16)
    memory.view(0, (4,), np.int32)[...] = 1, 2, 3, 4
    share(memory, mapped, ends)
    assert memory.announced
    memory.reserve(100_000)
    assert (memory.size, memory.announced) == (100_000, False)
    share(memory, mapped, ends)
    assert memory.announced
    memory.view(99_996, (1,), np.int32)[...] = 5
    assert mapped.view(0, (4,), np.int32).tolist() == [1, 2, 3, 4]
    assert mapped.view(99_996, (1,), np.int32).tolist() == [5]


@pytest.mark.parametrize("size", [0, 63, 64])
def test_memory_that_is_large_enough_is_neither_mapped_nor_announced_again(
    size: int, memory: SharedMemory, ends: tuple[Connection, Connection]
) -> None:
    memory.reserve(64)
    share(memory, MappedMemory(), ends)
    before = memory.view(0, (64,), np.uint8)
    memory.reserve(size)
    assert (memory.size, memory.announced) == (64, True)
    assert np.shares_memory(memory.view(0, (64,), np.uint8), before)


def test_views_end_where_the_memory_ends(memory: SharedMemory, ends: tuple[Connection, Connection]) -> None:
    mapped = MappedMemory()
    memory.reserve(64)
    share(memory, mapped, ends)
    for side in (memory, mapped):
        assert side.view(0, (16,), np.float32).nbytes == 64
        with pytest.raises(TypeError, match="buffer is too small"):
            side.view(4, (16,), np.float32)


def test_a_side_without_memory_refuses_to_view_it(memory: SharedMemory) -> None:
    with pytest.raises(AssertionError, match="reserve comes first"):
        memory.view(0, (1,), np.uint8)
    with pytest.raises(AssertionError, match="the client announces its memory first"):
        MappedMemory().view(0, (1,), np.uint8)


def test_memory_outlives_its_owner_until_the_other_sides_last_view(
    ends: tuple[Connection, Connection],
) -> None:
    memory, mapped = SharedMemory(), MappedMemory()
    memory.reserve(64)
    memory.view(0, (64,), np.uint8)[...] = 7
    share(memory, mapped, ends)
    memory.close()
    del memory
    assert (mapped.view(0, (64,), np.uint8) == 7).all()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_memory_that_grows_holds_as_many_descriptors_as_before(
    memory: SharedMemory, ends: tuple[Connection, Connection]
) -> None:
    mapped = MappedMemory()
    memory.reserve(64)
    share(memory, mapped, ends)
    before = open_files()
    for size in (4096, 100_000, 1_000_000):
        memory.reserve(size)
        share(memory, mapped, ends)
    assert open_files() == before


def test_memory_that_cannot_be_mapped_leaves_no_descriptor(
    memory: SharedMemory, ends: tuple[Connection, Connection]
) -> None:
    memory.reserve(64)
    memory.announce(ends[0])
    before = open_files()
    with pytest.raises(ValueError, match="greater than file size"):
        MappedMemory().receive(ends[1], 65)
    # Not even the one that was on its way.
    assert open_files() == before


def test_a_connection_carries_messages_both_ways(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with connect(str(tmp_path / "socket")) as near, Connection(listener.accept()[0].detach()) as far:
            near.send({"size": 3})
            assert far.recv() == {"size": 3}
            far.send("ready")
            assert near.recv() == "ready"


def test_a_server_that_is_not_there_or_no_longer_is_an_os_error(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path / "never"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "gone"))
        listener.listen()
    with pytest.raises(ConnectionRefusedError):
        connect(str(tmp_path / "gone"))
    assert open_files() == before
