"""A solver in another process: workers decode and encode, one process per GPU computes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.quantize import Quantizer
from flowkit.tvl1.cuda.driver import CHECKED_VARIABLE
from flowkit.tvl1.engine import EngineInfo, FlowCodes, Solver, check_batch, codes_solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.shared_memory import FLOATS, OutputForm, Response, SharedMemory, connect, receive

_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
_START += "from flowkit.tvl1.server.server import main; main(sys.argv[1:])"
PAIRS_PER_CALL = 16
"""Small enough that a few calls in flight bound a worker's memory; the server batches them."""

START_SECONDS = 120.0
"""For all servers to start: a driver that does not come up is given up then."""

_END_SECONDS = 5.0
_MEMORY_REMEDY = "raise the limit of open files or of memory, or use fewer --jobs"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """One server to start: an engine, on a GPU where it is "cuda" (memory in bytes, 0: most)."""

    backend: str
    gpu: int = 0
    memory_bytes: int = 0


class Servers:
    """Server processes, for as long as a `with` block lasts.

    Parameters
    ----------
    configs : sequence of ServerConfig
        One process each.
    params : TVL1Params
        Of TV-L1, for all of them.

    Raises
    ------
    BackendUnavailableError
        None of them can start; the message has each one's cause. Where some can, the causes of
        the others are in `failed`.
    """

    def __init__(self, configs: Sequence[ServerConfig], params: TVL1Params) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flowkit-servers-")
        self.addresses: list[str] = []
        self.failed: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._ends = time.monotonic() + START_SECONDS
        try:
            for k, config in enumerate(configs):
                self._processes.append(self._start(k, config, params))
            for k, (config, process) in enumerate(zip(configs, self._processes, strict=True)):
                self._await(k, config, process)
            if not self.addresses:
                raise BackendUnavailableError("; ".join(self.failed) or "no server was asked for")
        except BaseException:  # Ctrl-C too: no connection stays open
            self.close()
            raise

    def _path(self, number: int) -> str:
        return str(Path(self._folder.name) / f"{number}.socket")

    def _start(self, number: int, config: ServerConfig, params: TVL1Params) -> subprocess.Popen[str]:
        words = [config.backend, str(config.gpu), str(config.memory_bytes), params.to_json()]
        return subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), self._path(number), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # It is watched from here, whatever its driver does.
            env={**os.environ, CHECKED_VARIABLE: "1"},
            # Ctrl-C is the coordinator's to handle.
            start_new_session=True,
        )

    def _await(self, number: int, config: ServerConfig, process: subprocess.Popen[str]) -> None:
        ready = _first_said(process, self._ends)
        if "error" in ready:
            self.failed.append(f"{config.backend} on GPU {config.gpu}: {ready['error']}")
            return
        self.addresses.append(self._path(number))

    def close(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.kill()
        ends = time.monotonic() + _END_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.01, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                warnings.warn(
                    f"the server process {process.pid} was killed and does not end: a driver holds it",
                    RuntimeWarning,
                    stacklevel=2,
                )
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_said(process: subprocess.Popen[str], ends: float) -> dict[str, str]:
    """Return what a server says of its start, or the error of one that says no whole line in time."""
    assert process.stdout is not None
    pipe, said = process.stdout.fileno(), b""
    while b"\n" not in said:
        if not select.select([pipe], [], [], max(0.0, ends - time.monotonic()))[0]:
            process.kill()
            return {"error": f"it did not start within {START_SECONDS:g} s; see nvidia-smi"}
        part = os.read(pipe, 1 << 16)
        if not part:
            return {"error": _end_of(process)}
        said += part
    line = said[: said.index(b"\n") + 1].decode(errors="replace")
    try:
        state: dict[str, str] = json.loads(line)
    except json.JSONDecodeError:
        return {"error": f"it printed {line[:200]!r} instead of its state; see `flowkit doctor --gpu`"}
    return state


def _end_of(process: subprocess.Popen[str]) -> str:
    """Return how a server that said nothing ended."""
    try:
        return f"its process ended with {process.wait(_END_SECONDS)}; see `flowkit doctor --gpu`"
    except subprocess.TimeoutExpired:
        return "its process said nothing and does not end; see nvidia-smi"


class _Line(threading.local):
    """One thread's connection and memory; several threads of a worker call at once."""

    connection: Connection | None = None
    memory: SharedMemory | None = None
    address: str = ""
    engine: EngineInfo | None = None


class _NoServerError(BackendError):
    """No server is left, or none that can compute a request."""


class RemoteSolver:
    """A Solver and CodesSolver that lets one of several servers do the work.

    A server that fails, or is silent, is left for the next one, so that a GPU's pairs are taken over
    by the others; when none is left, `last_resort` computes here, or a BackendError has the error of
    each.

    Parameters
    ----------
    addresses : sequence of str
        Sockets of the servers, the preferred one first.
    last_resort : callable, optional
        Called as `last_resort()` when no server is left: returns an engine for this process.

    Attributes
    ----------
    failures : tuple of str
        The causes for which servers were left, or did not compute a request, one sentence each.

    Raises
    ------
    BackendError
        No server accepts, and there is no last resort.
    """

    pairs_per_call = PAIRS_PER_CALL

    def __init__(self, addresses: Sequence[str], *, last_resort: Callable[[], Solver] | None = None) -> None:
        self._addresses = list(addresses)
        self._said: list[str] = []
        self._reported = 0
        self._engines: dict[str, EngineInfo] = {}
        self._line = _Line()
        self._lock = threading.Lock()
        self._last_resort = last_resort
        self._here: Solver | None = None
        try:
            self._connected()
            assert self._line.engine is not None
            first = self._line.engine
        except _NoServerError as error:
            first = EngineInfo.of(self._engine_here(error))
        self.name, self.device, self.version = first.name, first.device, first.version
        self.deviations = first.deviations

    @property
    def failures(self) -> tuple[str, ...]:
        """The causes for which servers were left, one sentence each."""
        with self._lock:
            return tuple(self._said)

    def unreported(self) -> tuple[str, ...]:
        """Return those of `failures` that this method has not returned before."""
        with self._lock:
            new, self._reported = tuple(self._said[self._reported :]), len(self._said)
            return new

    def computes_elsewhere(self) -> bool:
        """Return whether servers compute: they take no core of this process."""
        with self._lock:
            return bool(self._addresses)

    def _engine_here(self, error: _NoServerError) -> Solver:
        """Return the engine of this process, or raise the error where there is none."""
        if self._last_resort is None:
            raise error
        with self._lock:
            if str(error) not in self._said and self._addresses:
                # The servers stay; this request is too large for them.
                self._said.append(str(error))
            if self._here is None:
                self._here = self._last_resort()
            return self._here

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of many pairs among the frames; as `Solver.flow_batch`.

        Raises
        ------
        BackendError
            No server is left, or each refuses the request.
        """
        try:
            return self._request(frames, pairs, FLOATS)[0].astype(np.float32, copy=False)
        except _NoServerError as error:
            return self._engine_here(error).flow_batch(frames, pairs, threads=threads)

    def codes_batch(self, frames: ArrayLike, pairs: ArrayLike, *, quantizer: Quantizer) -> FlowCodes:
        """Compute the flow as codes; as `CodesSolver.codes_batch`.

        The seconds are this request's fraction of its batches; the wait for its turn is no stage.

        Raises
        ------
        BackendError
            No server is left, or each refuses the request.
        """
        try:
            codes, response = self._request(frames, pairs, OutputForm(quantizer=quantizer))
        except _NoServerError as error:
            here = self._engine_here(error)
            made = codes_solver(here).codes_batch(frames, pairs, quantizer=quantizer)
            return dataclasses.replace(made, engine=EngineInfo.of(here))
        return FlowCodes(
            codes=codes,
            scales=response.scales,
            largest_px=response.largest_px,
            clipped=response.clipped,
            seconds=response.seconds,
            engine=self._line.engine,
        )

    def _request(
        self, frames: ArrayLike, pairs: ArrayLike, form: OutputForm
    ) -> tuple[NDArray[np.number], Response]:
        """Return the fields and the response of the first server that can compute them."""
        checked, checked_pairs = check_batch(frames, pairs)
        while True:
            connection = self._connected()
            self._reserve(checked, checked_pairs, form)
            try:
                fields, response = self._ask(connection, checked, checked_pairs, form)
            except (EOFError, OSError) as broken:
                self._drop_server(str(broken) or "the server's process ended")
                continue
            except BaseException:  # a response is outstanding: the next request must not take it
                self._disconnect()
                raise
            if response.too_large:
                raise _NoServerError(response.error)
            if response.refused:
                raise BackendError(response.error)
            if not response.error:
                return fields, response
            self._drop_server(response.error)

    def _reserve(self, frames: NDArray[np.number], pairs: NDArray[np.int32], form: OutputForm) -> None:
        """Make room for a request and its response.

        Raises
        ------
        BackendError
            This machine has no memory for them: no server is at fault.
        """
        shape, dtype, fields_at = _layout(frames, pairs, form)
        assert self._line.memory is not None
        try:
            self._line.memory.reserve(fields_at + math.prod(shape) * dtype.itemsize)
        except OSError as error:
            raise BackendError(f"no memory to share with a server: {error}; {_MEMORY_REMEDY}") from error

    def _ask(
        self, connection: Connection, frames: NDArray[np.number], pairs: NDArray[np.int32], form: OutputForm
    ) -> tuple[NDArray[np.number], Response]:
        memory = self._line.memory
        assert memory is not None
        shape, dtype, fields_at = _layout(frames, pairs, form)
        memory.view(0, frames.shape, frames.dtype)[...] = frames
        size = 0 if memory.announced else memory.size
        message = {"size": size, "shape": frames.shape, "dtype": frames.dtype, "pairs": pairs}
        message |= {"fields_at": fields_at, "fields": (shape, dtype), "form": form}
        connection.send(message)
        if size:
            memory.announce(connection)
        response: Response = receive(connection)
        return memory.view(fields_at, shape, dtype).copy(), response

    def _connected(self) -> Connection:
        """Return this thread's connection to the first server that accepts one."""
        line = self._line
        while True:
            with self._lock:
                addresses = list(self._addresses)
            if line.connection is not None:
                if line.address in addresses:
                    return line.connection
                self._disconnect()
            if not addresses:
                raise _NoServerError(f"no engine is left: {'; '.join(self._said)}")
            line.address, memory = addresses[0], _shared_memory()
            try:
                connection = connect(line.address)
                line.engine = receive(connection)
                self._engines[line.address] = line.engine
                line.connection, line.memory = connection, memory
            except (EOFError, OSError) as error:
                self._drop_server(str(error) or "the server's process ended")

    def _drop_server(self, why: str) -> None:
        """Remove this thread's server for all threads."""
        with self._lock:
            if self._line.address in self._addresses:
                self._addresses.remove(self._line.address)
                engine = self._engines.get(self._line.address)
                named = "" if engine is None or engine.device in why else f"{engine.device}: "
                self._said.append(named + why)
        self._disconnect()

    def _disconnect(self) -> None:
        line = self._line
        if line.connection is not None:
            line.connection.close()
        if line.memory is not None:
            line.memory.close()
        line.connection = line.memory = line.engine = None


def _layout(
    frames: NDArray[np.number], pairs: NDArray[np.int32], form: OutputForm
) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    """Return shape and dtype of a response's fields, and their offset behind the frames."""
    shape = (len(pairs), 2, *frames.shape[1:])
    dtype = form.quantizer.dtype if form.quantizer else np.dtype(np.float32)
    return shape, dtype, -(-frames.nbytes // 64) * 64


def _shared_memory() -> SharedMemory:
    try:
        return SharedMemory()
    except OSError as error:
        raise BackendError(f"no memory to share with a server: {error}; {_MEMORY_REMEDY}") from error
