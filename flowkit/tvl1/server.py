"""The process that owns one engine: it mixes the pairs of many videos into full batches.

Worker processes decode and encode; each sends its pairs here (`remote.RemoteSolver`). While the
engine computes one batch, requests of the same frame size gather and become the next one, so
the fuller the engine is, the larger its batches get, and no request waits for company.

Started by `remote.Servers` as `python -c ... socket-path backend gpu memory params`; prints one
line of JSON when it listens, or when it cannot, and ends when its standard input is closed.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import json
import os
import socket
import sys
import threading
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import FlowkitError
from flowkit.tvl1.backend import Solver, load_backend
from flowkit.tvl1.channel import MappedMemory
from flowkit.tvl1.params import TVL1Params

LANES = 2
"""Batches in work at once: one is copied while the other computes."""


@dataclasses.dataclass(slots=True, eq=False)
class Request:
    """Some pairs of one client; `done` is set when `flow` is filled or `error` says why not.

    `refused` tells that the request is at fault, and another engine would say the same.
    """

    frames: NDArray[Any]
    pairs: NDArray[np.int32]
    flow: NDArray[np.float32]
    error: str = ""
    refused: bool = False
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What requests must share to be computed in one batch."""
        return (*self.frames.shape[1:], self.frames.dtype)


class Mixer:
    """Runs requests on one solver, as many of one kind at once as are waiting.

    Parameters
    ----------
    solver : Solver
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._waiting: collections.deque[Request] = collections.deque()
        self._changed = threading.Condition()
        for _ in range(LANES):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, request: Request) -> None:
        """Queue a request and wait until it is done."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        request.done.wait()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                batch = self._take()
            self._solve(batch)

    def _take(self) -> list[Request]:
        """Take the oldest request and those of its kind that fit into one batch with it."""
        first, kept = self._waiting.popleft(), collections.deque[Request]()
        batch, pairs = [first], len(first.pairs)
        while self._waiting:
            request = self._waiting.popleft()
            fits = request.kind == first.kind and pairs + len(request.pairs) <= self._solver.pairs_per_call
            (batch if fits else kept).append(request)
            pairs += len(request.pairs) if fits else 0
        self._waiting.extend(kept)
        return batch

    def _solve(self, batch: Sequence[Request]) -> None:
        try:
            frames, pairs = mixed(batch)
            flow = self._solver.flow_batch(frames, pairs)
            start = 0
            for request in batch:
                request.flow[...] = flow[start : start + len(request.pairs)]
                start += len(request.pairs)
        except Exception as error:  # whatever the engine or its driver raises is the clients' answer
            for request in batch:
                request.error = str(error) if isinstance(error, FlowkitError) else repr(error)
                request.refused = isinstance(error, FlowkitError)
        for request in batch:
            request.done.set()


def mixed(batch: Sequence[Request]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return the frames of all requests end to end, and the pairs among them."""
    if len(batch) == 1:
        return batch[0].frames, batch[0].pairs
    starts = np.cumsum([0, *(len(request.frames) for request in batch[:-1])])
    pairs = [request.pairs + start for request, start in zip(batch, starts, strict=True)]
    return np.concatenate([request.frames for request in batch]), np.concatenate(pairs).astype(np.int32)


def serve_client(connection: Connection, mixer: Mixer, solver: Solver) -> None:
    """Answer one client until it hangs up."""
    memory = MappedMemory()
    with connection:
        connection.send((solver.name, solver.device, solver.version, solver.deviations))
        while True:
            try:
                message = connection.recv()
                if message["size"]:
                    memory.receive(connection, message["size"])
            except (EOFError, OSError):
                return
            frames = memory.view(0, message["shape"], message["dtype"])
            count, (height, width) = len(message["pairs"]), message["shape"][1:]
            flow = memory.view(message["flow_at"], (count, 2, height, width), np.float32)
            request = Request(frames=frames, pairs=message["pairs"], flow=flow)
            mixer.submit(request)
            connection.send((request.error, request.refused))


def _open_solver(backend: str, gpu: int, memory_bytes: int, params: TVL1Params) -> Solver:
    if backend != "cuda":
        return load_backend(backend, params)
    solver: Solver = importlib.import_module("flowkit.tvl1.cuda").load(
        params, gpu=gpu, memory_bytes=memory_bytes or None
    )
    return solver


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _tell_warnings(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"flowkit: {message}", file=sys.stderr, flush=True)


def main(words: Sequence[str]) -> None:
    """Serve until the parent ends."""
    path, backend, gpu, memory_bytes, params = words
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.showwarning = _tell_warnings
    try:
        solver = _open_solver(backend, int(gpu), int(memory_bytes), TVL1Params(**json.loads(params)))
        ready = {"device": solver.device}
    except FlowkitError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    mixer = Mixer(solver)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(256)
        print(json.dumps(ready), flush=True)
        while True:
            client, _ = listener.accept()
            connection = Connection(client.detach())
            threading.Thread(target=serve_client, args=(connection, mixer, solver), daemon=True).start()
