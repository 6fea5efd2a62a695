"""The process that owns one engine: it joins the pairs of many videos into full batches.

Worker processes decode and encode; each sends its pairs here (`client.RemoteSolver`). While the
engine computes one batch, requests of the same frame size gather and become the next one, so
the busier the engine is, the larger its batches get, and no request waits for others.

Started by `client.Servers` as `python -c ... socket-path backend gpu memory params`; prints one
line of JSON when it listens, or when it cannot, and ends when its standard input is closed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import BackendError, FlowkitError, GpuError, GpuMemoryError
from flowkit.tvl1.backend import load_shared
from flowkit.tvl1.engine import EngineInfo, FlowCodes, GpuSolver, Solver, codes_solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.shared_memory import (
    ALIVE,
    FLOATS,
    HEARTBEAT_SECONDS,
    MappedMemory,
    OutputForm,
    Response,
)

LANES = 2
"""Batches in work at once: one is copied while the other computes."""

_WATCH_SECONDS = 0.5
_LAST_RESPONSES_SECONDS = 1.0
"""Between the engine's end and the process's: time to send what clients wait for."""


@dataclasses.dataclass(slots=True, eq=False)
class Request:
    """Some pairs of one client; `done` is set when the response is there.

    `made` are the fields of the pairs, (m, 2, H, W), until they are copied to `fields`, the client's memory.
    """

    frames: NDArray[np.number]
    pairs: NDArray[np.int32]
    fields: NDArray[np.number]
    form: OutputForm = FLOATS
    response: Response = dataclasses.field(default_factory=Response)
    made: NDArray[np.number] | None = None
    done: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def kind(self) -> tuple[object, ...]:
        """The frame size, dtype and output that requests of one batch have in common."""
        return (*self.frames.shape[1:], self.frames.dtype, self.form)


class Batcher:
    """Runs requests on one solver, as many of one kind at once as are waiting.

    Parameters
    ----------
    solver : Solver
        The engine. A GpuError ends it: every request, in work or later, gets that error.

    Attributes
    ----------
    ended : threading.Event
        Set once the engine has ended.
    error : str
        Why; "" before.
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._coder = codes_solver(solver)
        self.ended = threading.Event()
        self.error = ""
        self._waiting: collections.deque[Request] = collections.deque()
        self._in_work: dict[int, Request] = {}
        self._changed = threading.Condition()
        for _ in range(LANES):
            threading.Thread(target=self._work, daemon=True).start()

    @property
    def waiting(self) -> int:
        """Number of requests that no lane has taken yet."""
        with self._changed:
            return len(self._waiting)

    def submit(self, request: Request, on_wait: Callable[[], None] = lambda: None) -> None:
        """Queue a request and wait until it is done, calling `on_wait` every HEARTBEAT_SECONDS."""
        with self._changed:
            if self.error:
                request.response = Response(error=self.error)
                return
            self._waiting.append(request)
            self._changed.notify()
        while not request.done.wait(HEARTBEAT_SECONDS):
            on_wait()
        # Here, and not in a lane: clients copy side by side, while the lanes compute.
        made, request.made = request.made, None
        if made is None:
            return
        try:
            request.fields[...] = made
        except Exception as error:  # a request of another form than its result is the client's response
            request.response = Response(error=repr(error))

    def end(self, error: BackendError) -> None:
        """End the engine: requests that wait or are in work get the error, and so do later ones."""
        with self._changed:
            self.error = self.error or str(error)
            for request in (*self._in_work.values(), *self._waiting):
                request.response = Response(error=self.error)
                request.done.set()
            self._waiting.clear()
        self.ended.set()

    def _work(self) -> None:
        if isinstance(self._solver, GpuSolver):
            try:
                self._solver.enter_thread()
            except BackendError as error:  # else requests would wait for a thread that is none
                self.end(error)
                return
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                batch = self._take()
                self._in_work |= {id(request): request for request in batch}
            self._solve(batch)
            with self._changed:
                for request in batch:
                    del self._in_work[id(request)]

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
            self._compute(batch)
        except GpuError as error:
            self.end(error)
        except Exception as error:  # any error of the engine or its driver is the clients' response
            known = isinstance(error, FlowkitError)
            if known and len(batch) > 1:
                # One of them is at fault: the others must not fail with it.
                for request in batch:
                    self._solve([request])
                return
            for request in batch:
                request.response = Response(
                    error=str(error) if known else repr(error),
                    refused=known and not isinstance(error, GpuMemoryError),
                    too_large=isinstance(error, GpuMemoryError),
                )
        # Set again for those of an engine that ended: their response is the error.
        for request in batch:
            request.done.set()

    def _compute(self, batch: Sequence[Request]) -> None:
        """Give each request its part of the fields and, for codes, its response."""
        frames, pairs = concatenated(batch)
        form, made = batch[0].form, None
        if form.quantizer is None:
            fields: NDArray[np.number] = self._solver.flow_batch(frames, pairs)
        else:
            made = self._coder.codes_batch(frames, pairs, quantizer=form.quantizer)
            fields = made.codes
        start = 0
        for request in batch:
            rows = slice(start, start + len(request.pairs))
            request.made = fields[rows]
            if not self.error:
                request.response = _response_of(made, rows) if made is not None else Response()
            start = rows.stop


def _response_of(made: FlowCodes, rows: slice) -> Response:
    """Return the response for some pairs of a batch, with their fraction of its seconds."""
    fraction = (rows.stop - rows.start) / max(1, len(made.codes))
    return Response(
        scales=made.scales[rows],
        largest_px=made.largest_px[rows],
        clipped=made.clipped[rows],
        seconds={stage: fraction * seconds for stage, seconds in made.seconds.items()},
    )


def concatenated(batch: Sequence[Request]) -> tuple[NDArray[np.number], NDArray[np.int32]]:
    """Return the frames of all requests end to end, and the pairs among them."""
    if len(batch) == 1:
        return batch[0].frames, batch[0].pairs
    starts = np.cumsum([0, *(len(request.frames) for request in batch[:-1])])
    pairs = [request.pairs + start for request, start in zip(batch, starts, strict=True)]
    return np.concatenate([request.frames for request in batch]), np.concatenate(pairs).astype(np.int32)


def serve_client(connection: Connection, batcher: Batcher, solver: Solver) -> None:
    """Serve one client until it closes the connection."""
    memory = MappedMemory()
    with connection, contextlib.suppress(EOFError, OSError):
        connection.send(EngineInfo.of(solver))
        while True:
            message = connection.recv()
            if message["size"]:
                memory.receive(connection, message["size"])
            frames = memory.view(0, message["shape"], message["dtype"])
            fields = memory.view(message["fields_at"], *message["fields"])
            request = Request(frames=frames, pairs=message["pairs"], fields=fields, form=message["form"])
            batcher.submit(request, lambda: connection.send(ALIVE))
            connection.send(request.response)


def _end_with_parent() -> None:
    # Not sys.stdin.buffer: this thread would hold its lock when `main` returns, and Python would abort.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"flowkit: {message}", file=sys.stderr, flush=True)


def main(words: Sequence[str]) -> None:
    """Serve until the parent ends."""
    path, backend, gpu, memory_bytes, params = words
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.showwarning = _print_warning
    try:
        solver = load_shared(
            backend,
            TVL1Params.from_json(params),
            callers=LANES,  # each is a call of its own
            gpu=int(gpu),
            memory_bytes=int(memory_bytes),
        )
        ready = {"device": solver.device}
    except FlowkitError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    batcher = Batcher(solver)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(256)
        print(json.dumps(ready), flush=True)
        threading.Thread(target=_accept, args=(listener, batcher, solver), daemon=True).start()
        _watch(solver, batcher)
        _print_warning(f"{batcher.error}; other engines take over its pairs, where there are any")
    # Not by returning: a call into the driver may never come back, and its exit handlers would wait for it.
    time.sleep(_LAST_RESPONSES_SECONDS)
    os._exit(1)


def _accept(listener: socket.socket, batcher: Batcher, solver: Solver) -> None:
    while True:
        client, _ = listener.accept()
        connection = Connection(client.detach())
        threading.Thread(target=serve_client, args=(connection, batcher, solver), daemon=True).start()


def _watch(solver: Solver, batcher: Batcher) -> None:
    """Return once the engine has ended, by an error of its own or by a call that does not return."""
    while not batcher.ended.wait(_WATCH_SECONDS):
        error = solver.failure() if isinstance(solver, GpuSolver) else None
        if error is not None:
            batcher.end(error)
