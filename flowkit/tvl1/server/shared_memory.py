"""Arrays between two processes of one machine: messages over a socket, pixels in shared memory.

The client owns an anonymous memory file whose descriptor goes over the socket once (and again
when it has grown), so nothing has a name and nothing is left behind by a process that dies.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import socket
import struct
import time
import weakref
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flowkit.quantize import Quantizer


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OutputForm:
    """Form of the flow: a quantiser's codes (see `codes_solver`), or floats without one."""

    quantizer: Quantizer | None = None


FLOATS = OutputForm()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Response:
    """The response beside the fields themselves, or the error instead of them.

    `refused`: the request is at fault, and every engine would refuse it; `too_large`: this engine lacks
    the memory for it, and does others.
    `scales`, `largest_px`, `clipped` and `seconds` belong to codes (see `FlowCodes`), and are empty without.
    """

    error: str = ""
    refused: bool = False
    too_large: bool = False
    scales: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    largest_px: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    clipped: NDArray[np.int32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


HEARTBEAT_SECONDS = 1.0
"""A server sends ALIVE this often while a request waits or is in work."""

SILENCE_SECONDS = 4.0
"""Of a server: beyond it a client takes it for lost."""

ALIVE = None
"""The message of a server that has nothing else to say yet."""

_POLL_SECONDS = 0.25


def receive(connection: Connection) -> Any:
    """Return a server's next message but ALIVE.

    Raises
    ------
    EOFError, OSError
        Its process ended, or it was silent for SILENCE_SECONDS.
    """
    silent, before = 0.0, time.monotonic()
    while True:
        if connection.poll(_POLL_SECONDS):
            message = connection.recv()
            if message is not ALIVE:
                return message
            silent = 0.0
        now = time.monotonic()
        # A process that was stopped meanwhile has not listened so long.
        silent += min(now - before, 2 * _POLL_SECONDS)
        before = now
        if silent > SILENCE_SECONDS:
            raise TimeoutError(f"the server's process has not answered for {SILENCE_SECONDS:g} s")


class SharedMemory:
    """A growing block of memory that the other side of a connection maps too."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("flowkit")
        # Threads end without a word: what they held goes with them.
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self._map: mmap.mmap | None = None
        self.size = 0
        self.announced = False

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes; views taken before must be gone."""
        if size <= self.size:
            return
        os.ftruncate(self._descriptor, size)
        self._map, self.size, self.announced = mmap.mmap(self._descriptor, size), size, False

    def announce(self, connection: Connection) -> None:
        """Send the descriptor, after the message with its size."""
        send_handle(connection, self._descriptor, 0)
        self.announced = True

    def view(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.number]:
        """Return an array in the block."""
        assert self._map is not None, "reserve comes first"
        return np.ndarray(shape, dtype, self._map, offset)

    def close(self) -> None:
        """Close the descriptor; the memory is freed with its last view."""
        self._close()


class MappedMemory:
    """The other side's view of a `SharedMemory`."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None

    def receive(self, connection: Connection, size: int) -> None:
        """Take the descriptor that `announce` sends and map `size` bytes of it."""
        descriptor = recv_handle(connection)
        try:
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def view(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.number]:
        """Return an array in the block."""
        assert self._map is not None, "the client announces its memory first"
        return np.ndarray(shape, dtype, self._map, offset)


def connect(path: str) -> Connection:
    """Return a connection to the server that listens at a socket's path.

    Raises
    ------
    OSError
        No server listens there (any more), or it does not accept in SILENCE_SECONDS.
    """
    client = socket.socket(socket.AF_UNIX)
    # The kernel's own deadlines of one read or write: Python's would make the descriptor non-blocking.
    limit = struct.pack("ll", *divmod(round(1e6 * SILENCE_SECONDS), 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        client.setsockopt(socket.SOL_SOCKET, option, limit)
    try:
        client.connect(path)
        return Connection(client.detach())
    except OSError:
        client.close()
        raise
