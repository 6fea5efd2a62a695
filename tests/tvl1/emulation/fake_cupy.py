"""A stand-in for the module cupy: NumPy arrays for memory, the emulator for kernels.

Streams are as lazy as they may be: what is enqueued happens only when an event is asked for or a
stream is waited for, so that a driver which reads too early reads poison. Memory starts as NaN,
is counted against a limit, and has guards on both sides that every launch must leave alone.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import functools
import math
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda import solver as cuda
from tests.tvl1.emulation.emulator import IN_TURN, EmulationError, Module

GUARD_BYTES = 4096
POISON = 0xFF


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory's."""


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime's."""


class Stream:
    """Work in order, done when somebody waits."""

    def __init__(self, gpu: FakeGpu, ptr: int = 0) -> None:
        self.gpu = gpu
        self.ptr = ptr
        self.queue: list[Callable[[], None]] = []
        self.enqueued = self.finished = 0

    def add(self, work: Callable[[], None]) -> None:
        with self.gpu.lock:
            self.queue.append(work)
            self.enqueued += 1
            if self.gpu.eager:
                self.advance(self.enqueued)

    def advance(self, until: int) -> None:
        with self.gpu.lock:
            while self.finished < until:
                self.queue.pop(0)()
                self.finished += 1

    def synchronize(self) -> None:
        self.advance(self.enqueued)

    def __enter__(self) -> Stream:
        self.gpu.stack().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.gpu.stack().pop() is self


class Event:
    """A point of a stream; asking for it three times brings it about."""

    def __init__(self, gpu: FakeGpu, disable_timing: bool) -> None:
        self._gpu = gpu
        self._asked = 0
        self._timed = not disable_timing
        self.happened = math.nan

    def record(self, stream: Stream | None = None) -> None:
        self._stream = stream or self._gpu.current_stream()
        if self._timed:
            self._stream.add(self._stamp)
        self._at = self._stream.enqueued

    def _stamp(self) -> None:
        self.happened = time.perf_counter()

    @property
    def done(self) -> bool:
        self._asked += 1
        if self._asked > 2:
            self._stream.advance(self._at)
        return self._stream.finished >= self._at

    def synchronize(self) -> None:
        self._stream.advance(self._at)


def get_elapsed_time(first: Event, second: Event) -> float:
    """As cupy.cuda's: milliseconds, of events that time and have happened."""
    assert first._timed, "an event without timing"
    assert second._timed, "an event without timing"
    elapsed = 1e3 * (second.happened - first.happened)
    if math.isnan(elapsed):
        raise CUDARuntimeError("cudaErrorNotReady")
    return elapsed


class FakeArray(np.ndarray):
    """Device memory, with cupy's two ways in and out."""

    gpu: FakeGpu | None = None

    def __dlpack_device__(self) -> Any:
        return 2, 0

    def __array_finalize__(self, parent: Any) -> None:
        self.gpu = getattr(parent, "gpu", None)

    def set(self, values: np.ndarray[Any, Any], stream: Stream | None = None) -> None:
        assert self.gpu is not None
        assert stream is not None, "a copy without a stream is not ordered after the work on ours"
        # Pageable memory is read at once; pinned memory when the copy's turn comes.
        source = values if self.gpu.is_pinned(values) else values.copy()
        stream.add(lambda: np.copyto(self.view(np.ndarray), source))

    def get(
        self,
        stream: Stream | None = None,
        out: np.ndarray[Any, Any] | None = None,
        blocking: bool = True,
    ) -> np.ndarray[Any, Any]:
        assert self.gpu is not None
        assert out is None or blocking or self.gpu.is_pinned(out), "only pinned memory copies beside the host"
        chosen = stream or self.gpu.current_stream()
        if not blocking:
            assert out is not None
            # As on a GPU, the copy knows an address: it keeps nothing alive.
            chosen.add(self.gpu.copy_to_pinned(out.ctypes.data, self))
            return out
        target = np.empty(self.shape, self.dtype) if out is None else out
        chosen.add(lambda: np.copyto(target, self.view(np.ndarray)))
        chosen.synchronize()
        return target


class Function:
    """A kernel of a loaded module."""

    def __init__(self, gpu: FakeGpu, module: Module, name: str) -> None:
        self.gpu, self.module, self.name = gpu, module, name
        self.ptr = id(self)

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        assert all(isinstance(arg, FakeArray | np.generic) for arg in args), args
        self.gpu.launched[self.name] = self.gpu.launched.get(self.name, 0) + 1

        def run() -> None:
            self.module.set_schedule(*self.gpu.schedule)
            self.module.launch(self.name, grid, block, args, shared_mem=shared_mem)
            self.gpu.check_guards()

        self.gpu.current_stream().add(run)


class FakeGpu:
    """One GPU: its memory, streams and properties.

    Parameters
    ----------
    schedule : (kind, seed)
        Of the emulator.
    memory : int
        Bytes.
    capability : int
        Ten times the compute capability.
    sources : mapping, optional
        Kernel files other than those shipped: faults planted.
    eager : bool
        Do at once what is enqueued, so that memory is freed as early as on a real GPU.
    """

    def __init__(
        self,
        *,
        schedule: tuple[int, int] = (IN_TURN, 0),
        memory: int = 1 << 34,
        capability: int = 75,
        sources: Mapping[str, str] | None = None,
        eager: bool = False,
    ) -> None:
        self.schedule, self.memory, self.capability, self.sources = schedule, memory, capability, sources
        self.eager = eager
        self.lock = threading.RLock()
        self.launched: dict[str, int] = {}
        self.attributes: list[tuple[int, int]] = []
        self.used = self.peak = 0
        self._local = threading.local()
        self._null = Stream(self)
        self.streams: dict[int, Stream] = {}
        self._guarded: dict[int, Any] = {}
        self._pinned: dict[int, np.ndarray[Any, Any]] = {}
        self._freed_pinned: list[np.ndarray[Any, Any]] = []

    def stack(self) -> list[Stream]:
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[Stream] = self._local.stack
        return stack

    def current_stream(self) -> Stream:
        return self.stack()[-1] if self.stack() else self._null

    def external_stream(self, ptr: int) -> Stream:
        return self.streams[ptr]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> FakeArray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self.lock:
            if self.used + size > self.memory:
                raise OutOfMemoryError(f"{size} bytes")
            self.used += size
            self.peak = max(self.peak, self.used)
            raw = np.full(size + 2 * GUARD_BYTES, POISON, np.uint8)
            self._guarded[id(raw)] = weakref.ref(raw)
            weakref.finalize(raw, self._freed, id(raw), size)
        array: FakeArray = raw[GUARD_BYTES : GUARD_BYTES + size].view(dtype).reshape(shape).view(FakeArray)
        array.gpu = self
        return array

    def take(self, array: FakeArray, indices: FakeArray, axis: int) -> FakeArray:
        result = self.empty((len(indices), *array.shape[1:]), array.dtype)

        def copy() -> None:
            result[...] = np.take(array.view(np.ndarray), indices.view(np.ndarray), axis)

        self.current_stream().add(copy)
        return result

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> FakeArray:
        array = self.empty(shape, dtype)
        self.current_stream().add(lambda: array.fill(0))
        return array

    def _freed(self, key: int, size: int) -> None:
        with self.lock:
            self.used -= size
            self._guarded.pop(key, None)

    def check_guards(self) -> None:
        for reference in list(self._guarded.values()):
            raw = reference()
            if raw is None:
                continue
            if (raw[:GUARD_BYTES] != POISON).any() or (raw[-GUARD_BYTES:] != POISON).any():
                raise EmulationError("a kernel wrote outside of its memory")

    def pinned(self, size: int) -> ctypes.Array[ctypes.c_ubyte]:
        backing = np.full(size, POISON, np.uint8)
        memory = (ctypes.c_ubyte * size).from_buffer(backing.data)
        start = backing.ctypes.data
        with self.lock:
            self._pinned[start] = backing
        # What was freed is never used again: its address stays unique.
        weakref.finalize(memory, self._unpinned, start)
        return memory

    def _unpinned(self, start: int) -> None:
        self._freed_pinned.append(self._pinned.pop(start))

    def is_pinned(self, array: np.ndarray[Any, Any]) -> bool:
        return self._backing(array.ctypes.data) is not None

    def _backing(self, address: int) -> np.ndarray[Any, Any] | None:
        for start, backing in list(self._pinned.items()):
            if start <= address < start + backing.nbytes:
                return backing
        return None

    def copy_to_pinned(self, address: int, array: FakeArray) -> Callable[[], None]:
        def copy() -> None:
            backing = self._backing(address)
            if backing is None:
                raise EmulationError("a copy to pinned memory that has been freed")
            offset = address - backing.ctypes.data
            values = np.ascontiguousarray(array).view(np.ndarray).reshape(-1).view(np.uint8)
            backing[offset : offset + values.nbytes] = values

        return copy

    def load(self, code: bytes) -> Module:
        source, defines = ast.literal_eval(code.decode())
        return Module(source, dict(defines), self.sources)


def code_of(source: str, defines: Mapping[str, int], capability: int, **_: Any) -> bytes:
    """Stand in for `cuda_kernels.cubin`: a note of what would be compiled."""
    return repr((source, sorted(defines.items()))).encode()


def install(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> FakeGpu:
    """Let the engine find `gpu` as its only one, behind a module cupy that imports."""
    monkeypatch.setitem(sys.modules, "cupy", make_module(gpu))
    monkeypatch.setattr(cuda_kernels, "cubin", code_of)
    monkeypatch.setattr(cuda_device, "open_device", functools.cache(cuda_device.open_device.__wrapped__))
    monkeypatch.setattr(cuda, "open_device", cuda_device.open_device)
    monkeypatch.setattr(cuda_device, "load_nvrtc", lambda major: None)
    monkeypatch.setattr(cuda_kernels, "target_architecture", lambda capability, nvrtc: capability)
    return gpu


def make_module(gpu: FakeGpu) -> types.ModuleType:
    """Return something to import as cupy, with one GPU behind it."""

    class LoadedModule:
        def load(self, code: bytes) -> None:
            self._module = gpu.load(code)

        def get_function(self, name: str) -> Function:
            return Function(gpu, self._module, name)

    class StreamMaker:
        def __new__(cls, non_blocking: bool = False) -> Any:
            return Stream(gpu)

        @staticmethod
        def from_external(foreign: Any) -> Stream:
            return gpu.external_stream(foreign.__cuda_stream__()[1])

    @contextlib.contextmanager
    def device(index: int) -> Iterator[None]:
        assert index == 0
        yield

    properties = {
        "name": b"Emulated GPU",
        "major": gpu.capability // 10,
        "minor": gpu.capability % 10,
        "multiProcessorCount": 2,
        "sharedMemPerBlockOptin": 227 * 1024,
    }
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda index: properties,
        runtimeGetVersion=lambda: 13000,
        memGetInfo=lambda: (gpu.memory - gpu.used, gpu.memory),
        CUDARuntimeError=CUDARuntimeError,
    )
    pool = types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
    cupy: Any = types.ModuleType("cupy")
    cupy.empty, cupy.zeros, cupy.take, cupy.ndarray = gpu.empty, gpu.zeros, gpu.take, FakeArray
    cupy.from_dlpack = cupy.asarray = lambda frames: frames.memory
    cupy.ascontiguousarray = np.asanyarray
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=device,
        Stream=StreamMaker,
        Event=lambda disable_timing=False: Event(gpu, disable_timing),
        get_elapsed_time=get_elapsed_time,
        Module=LoadedModule,
        alloc_pinned_memory=gpu.pinned,
        get_current_stream=gpu.current_stream,
        set_allocator=lambda allocator: None,
        set_pinned_memory_allocator=lambda allocator: None,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=types.SimpleNamespace(
            funcSetAttribute=lambda ptr, attribute, value: gpu.attributes.append((attribute, value))
        ),
    )
    module: types.ModuleType = cupy
    return module
