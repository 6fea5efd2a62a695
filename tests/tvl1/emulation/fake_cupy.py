"""A stand-in for the module cupy: NumPy arrays for memory, the emulator for kernels.

Streams are as lazy as they may be: what is enqueued happens only when an event is asked for or a
stream is waited for, so that a driver which reads too early reads poison. Memory starts as NaN,
is counted against a limit, and has guards on both sides that every launch must leave alone.

A `Fault` makes a launch fail as on a GPU: the status comes with a later call, and stays; or the work
never ends, or the launch is refused, or the call does not return.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import dataclasses
import functools
import itertools
import json
import math
import os
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import driver as cuda_driver
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda import solver as cuda
from tests.tvl1.emulation.emulator import COMPILER, IN_TURN, EmulationError, Module, build

if TYPE_CHECKING:
    # Many short processes of the tests import this file.
    import pytest

GUARD_BYTES = 4096
POISON = 0xFF


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory's."""


STATUSES = {
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    209: "cudaErrorNoKernelImageForDevice: no kernel image is available for execution on the device",
    214: "cudaErrorECCUncorrectable: uncorrectable ECC error encountered",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
    600: "cudaErrorNotReady: device not ready",
    700: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    701: "cudaErrorLaunchOutOfResources: too many resources requested for launch",
    716: "cudaErrorMisalignedAddress: misaligned address",
    719: "cudaErrorLaunchFailure: unspecified launch failure",
    912: "cudaErrorInvalidClusterSize: cluster misconfiguration",
}


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime's."""

    def __init__(self, status: int) -> None:
        super().__init__(STATUSES[status])
        self.status = status


class CUDADriverError(CUDARuntimeError):
    """As cupy.cuda.driver's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A launch that fails.

    Parameters
    ----------
    kind
        "status": its work ends with an error that stays; "hang": it never ends; "refused": the call
        raises and nothing else changes; "blocked": the call does not return.
    status : int
        Of "status" and "refused".
    kernel : str
        The name's beginning; "" is any.
    after : int
        Launches of the kernel that go well before.
    """

    kind: Literal["status", "hang", "refused", "blocked"]
    status: int = 700
    kernel: str = ""
    after: int = 0


_handles = itertools.count(1)


class Stream:
    """Work in order, done when somebody waits."""

    def __init__(self, gpu: FakeGpu, ptr: int = 0) -> None:
        self.gpu = gpu
        gpu.all_streams.add(self)
        self.ptr = ptr
        self.queue: list[Callable[[], None]] = []
        self.enqueued = self.finished = 0
        self.hung = False

    def add(self, work: Callable[[], None]) -> None:
        with self.gpu.lock:
            self.queue.append(work)
            self.enqueued += 1
            if self.gpu.eager:
                self.advance(self.enqueued)

    def advance(self, until: int) -> None:
        with self.gpu.lock:
            while self.finished < until and not self.gpu.sticky:
                if self.hung:
                    return
                self.queue[0]()
                if self.hung or self.gpu.sticky:
                    return
                self.queue.pop(0)
                self.finished += 1

    def synchronize(self) -> None:
        self.advance(self.enqueued)
        self.gpu.check()
        assert not self.hung, "this wait would have no end"

    def __enter__(self) -> Stream:
        self.gpu.stack().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.gpu.stack().pop() is self


class Event:
    """A point of a stream; asking for it three times brings it about."""

    def __init__(self, gpu: FakeGpu, disable_timing: bool) -> None:
        gpu.check()
        self._gpu = gpu
        self._asked = 0
        self._timed = not disable_timing
        self.happened = math.nan
        self.ptr = next(_handles)
        gpu.events[self.ptr] = self

    def record(self, stream: Stream | None = None) -> None:
        self._gpu.check()
        self._stream = stream or self._gpu.current_stream()
        if self._timed:
            self._stream.add(self._stamp)
        self._at = self._stream.enqueued

    def _stamp(self) -> None:
        self.happened = time.perf_counter()

    def query(self) -> int:
        """As cudaEventQuery: 0, 600 while it has not happened, or the error of the GPU."""
        self._asked += 1
        if self._asked > 2:
            self._stream.advance(self._at)
        return self._gpu.sticky or (0 if self._stream.finished >= self._at else 600)


def get_elapsed_time(first: Event, second: Event) -> float:
    """As cupy.cuda's: milliseconds, of events that time and have happened."""
    assert first._timed, "an event without timing"
    assert second._timed, "an event without timing"
    first._gpu.check()
    elapsed = 1e3 * (second.happened - first.happened)
    if math.isnan(elapsed):
        raise CUDARuntimeError(600)
    return elapsed


class FakeArray(np.ndarray):
    """Device memory, with cupy's two ways in and out."""

    gpu: FakeGpu | None = None

    def __dlpack_device__(self) -> Any:
        return 2, self.gpu.index if self.gpu is not None else 0

    def __array_finalize__(self, parent: Any) -> None:
        self.gpu = getattr(parent, "gpu", None)

    def set(self, values: np.ndarray[Any, Any], stream: Stream | None = None) -> None:
        assert self.gpu is not None
        assert stream is not None, "a copy without a stream is not ordered after the work on ours"
        self.gpu.check()
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
        self.gpu.check()
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


class MachineCode:
    """Kernels compiled for a GPU, which do nothing here."""

    def set_schedule(self, kind: int, seed: int = 0) -> None:
        """Take what an emulated module takes."""

    def launch(self, name: str, *where: object, shared_mem: int = 0) -> None:
        """Leave all memory as it is."""


class Function:
    """A kernel of a loaded module."""

    def __init__(self, gpu: FakeGpu, module: Module | MachineCode, name: str) -> None:
        self.gpu, self.module, self.name = gpu, module, name
        self.ptr = id(self)

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        assert all(isinstance(arg, FakeArray | np.generic) for arg in args), args
        self.gpu.check()
        before = self.gpu.launched.get(self.name, 0)
        self.gpu.launched[self.name] = before + 1
        fault = self.gpu.fault_of(self.name, before)
        if fault is not None and fault.kind == "refused":
            raise CUDADriverError(fault.status)
        if fault is not None and fault.kind == "blocked":
            self.gpu.unblocked.wait()
        stream = self.gpu.current_stream()

        def run() -> None:
            if fault is not None:
                self.gpu.sticky = fault.status if fault.kind == "status" else 0
                stream.hung = fault.kind == "hang"
                return
            self.module.set_schedule(*self.gpu.schedule)
            self.module.launch(self.name, grid, block, args, shared_mem=shared_mem)
            self.gpu.check_guards()

        stream.add(run)


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
    faults : sequence of Fault
        Launches that fail.
    pinned_memory : int
        Bytes of pinned memory that may exist at once.
    clusters : int
        Clusters that fit at once, whatever their shape.
    index : int
        Among the GPUs of the machine.

    Attributes
    ----------
    sticky : int
        The error that every call returns from the first fault on; 0 before.
    unblocked : threading.Event
        Set by a test's end, to let the calls return that do not.
    """

    def __init__(
        self,
        *,
        schedule: tuple[int, int] = (IN_TURN, 0),
        memory: int = 1 << 34,
        capability: int = 75,
        sources: Mapping[str, str] | None = None,
        eager: bool = False,
        faults: Sequence[Fault] = (),
        pinned_memory: int = 1 << 34,
        clusters: int = 2,
        index: int = 0,
    ) -> None:
        self.faults, self.pinned_memory, self.clusters, self.index = faults, pinned_memory, clusters, index
        self.sticky, self.unblocked = 0, threading.Event()
        self.events: weakref.WeakValueDictionary[int, Event] = weakref.WeakValueDictionary()
        self.schedule, self.memory, self.capability, self.sources = schedule, memory, capability, sources
        self.eager = eager
        self.lock = threading.RLock()
        self.launched: dict[str, int] = {}
        self.attributes: list[tuple[int, int]] = []
        self.used = self.peak = 0
        self._local = threading.local()
        self.all_streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._null = Stream(self)
        self.streams: dict[int, Stream] = {}
        self._guarded: dict[int, Any] = {}
        self._pinned: dict[int, np.ndarray[Any, Any]] = {}
        self._freed_pinned: list[np.ndarray[Any, Any]] = []

    def check(self) -> None:
        """Raise the error that a GPU which failed returns from every call."""
        if self.sticky:
            raise CUDARuntimeError(self.sticky)

    def fault_of(self, kernel: str, before: int) -> Fault | None:
        """Return the fault of a launch, the one after `before` of its kernel."""
        for fault in self.faults:
            if kernel.startswith(fault.kernel) and before >= fault.after:
                return fault
        return None

    def stack(self) -> list[Stream]:
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[Stream] = self._local.stack
        return stack

    def current_stream(self) -> Stream:
        return self.stack()[-1] if self.stack() else self._null

    def synchronize(self) -> None:
        """Do all that is enqueued on any stream."""
        for stream in list(self.all_streams):
            stream.synchronize()

    def external_stream(self, ptr: int) -> Stream:
        return self.streams[ptr]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> FakeArray:
        self.check()
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

    def memory_blocks(self) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the blocks of memory that are in use."""
        for reference in list(self._guarded.values()):
            raw = reference()
            if raw is not None:
                yield raw

    def check_guards(self) -> None:
        for raw in self.memory_blocks():
            if (raw[:GUARD_BYTES] != POISON).any() or (raw[-GUARD_BYTES:] != POISON).any():
                raise EmulationError("a kernel wrote outside of its memory")

    def pinned(self, size: int) -> ctypes.Array[ctypes.c_ubyte]:
        self.check()
        if sum(array.nbytes for array in list(self._pinned.values())) + size > self.pinned_memory:
            raise CUDARuntimeError(2)
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

    def load(self, code: bytes) -> Module | MachineCode:
        if code.startswith(b"\x7fELF"):
            return MachineCode()
        source, defines = ast.literal_eval(code.decode())
        return Module(source, dict(defines), self.sources)


def code_of(source: str, defines: Mapping[str, float], capability: int, **_: Any) -> bytes:
    """Stand in for `cuda_kernels.cubin`: compiled for the host, so that to load it is quick; a note of it."""
    if COMPILER is not None:
        build(source, defines)
    return repr((source, sorted(defines.items()))).encode()


def _replacements(gpus: Sequence[FakeGpu]) -> list[tuple[Any, str, Any]]:
    """Return what makes the engine find these GPUs and no others: (object, name, value)."""

    def max_active_clusters(function: int, **shape: int) -> tuple[int, int]:
        del function, shape
        return gpus[0].sticky, gpus[0].clusters

    opened = functools.cache(cuda_device.open_device.__wrapped__)
    return [
        (cuda_kernels, "cubin", code_of),
        (cuda_device, "open_device", opened),
        (cuda, "open_device", opened),
        (cuda_device, "load_nvrtc", lambda major: None),
        (cuda_kernels, "target_architecture", lambda capability, nvrtc: capability),
        (cuda_driver, "max_active_clusters", max_active_clusters),
        (cuda_driver, "check_driver", lambda: None),
    ]


def install(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu, *others: FakeGpu) -> FakeGpu:
    """Let the engine find `gpu` and `others` as its only ones, behind a module cupy that imports."""
    monkeypatch.setitem(sys.modules, "cupy", make_module(gpu, *others))
    for thing, name, value in _replacements((gpu, *others)):
        monkeypatch.setattr(thing, name, value)
    return gpu


GPUS_VARIABLE = "FLOWKIT_FAKE_GPUS"
"""Faults of each GPU of a process that imports cupy from `cupy_folder`, as JSON."""

CAPABILITY_VARIABLE = "FLOWKIT_FAKE_CAPABILITY"
"""Ten times the compute capability of those GPUs; default: 75."""


def gpus_in_other_processes(monkeypatch: pytest.MonkeyPatch, faults: Sequence[Sequence[Fault]]) -> None:
    """Let this process and those that it starts find one GPU for each sequence of faults."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "cupy_folder")
    monkeypatch.setenv(GPUS_VARIABLE, json.dumps([[dataclasses.asdict(f) for f in each] for each in faults]))
    install(monkeypatch, *(FakeGpu(index=k) for k in range(len(faults))))


def install_by_environment() -> None:
    """Replace the module cupy of this process by GPUs with the faults that GPUS_VARIABLE names."""
    faults = json.loads(os.environ[GPUS_VARIABLE])
    capability = int(os.environ.get(CAPABILITY_VARIABLE, "75"))
    gpus = [
        FakeGpu(index=k, capability=capability, faults=[Fault(**fault) for fault in each])
        for k, each in enumerate(faults)
    ]
    sys.modules["cupy"] = make_module(*gpus)
    for thing, name, value in _replacements(gpus):
        setattr(thing, name, value)


def make_module(*gpus: FakeGpu) -> types.ModuleType:
    """Return something to import as cupy, with these GPUs behind it."""
    chosen = threading.local()

    def current() -> FakeGpu:
        stack: list[int] = getattr(chosen, "stack", [])
        return gpus[stack[-1] if stack else getattr(chosen, "own", 0)]

    class LoadedModule:
        def load(self, code: bytes) -> None:
            current().check()
            self._gpu, self._module = current(), current().load(code)

        def get_function(self, name: str) -> Function:
            return Function(self._gpu, self._module, name)

    class StreamMaker:
        def __new__(cls, non_blocking: bool = False) -> Any:
            current().check()
            return Stream(current())

        @staticmethod
        def from_external(foreign: Any) -> Stream:
            return current().external_stream(foreign.__cuda_stream__()[1])

    @contextlib.contextmanager
    def device(index: int) -> Iterator[None]:
        assert 0 <= index < len(gpus)
        chosen.stack = [*getattr(chosen, "stack", []), index]
        try:
            yield
        finally:
            chosen.stack = chosen.stack[:-1]
            # As cupy's: making the device before current again opens a context there.
            current().check()

    def properties(index: int) -> dict[str, Any]:
        gpus[index].check()
        return {
            "name": b"Emulated GPU",
            "major": gpus[index].capability // 10,
            "minor": gpus[index].capability % 10,
            "multiProcessorCount": 2,
            "sharedMemPerBlockOptin": 227 * 1024,
        }

    def set_device(index: int) -> None:
        gpus[index].check()
        chosen.own = index

    def event_query(ptr: int) -> int:
        return next(gpu.events[ptr] for gpu in gpus if ptr in gpu.events).query()

    def memory_info() -> tuple[int, int]:
        current().check()
        return current().memory - current().used, current().memory

    def pointer_attributes(pointer: int) -> Any:
        held = (gpu.index for gpu in gpus for raw in gpu.memory_blocks() if contains(raw, pointer))
        return types.SimpleNamespace(device=next(held, -1))

    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: len(gpus),
        getDeviceProperties=properties,
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        memGetInfo=memory_info,
        eventQuery=event_query,
        setDevice=set_device,
        deviceSynchronize=lambda: current().synchronize(),
        pointerGetAttributes=pointer_attributes,
        CUDARuntimeError=CUDARuntimeError,
    )
    pool = types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
    cupy: Any = types.ModuleType("cupy")
    cupy.__version__ = "stand-in"
    cupy.ndarray = FakeArray
    cupy.empty = lambda *args: current().empty(*args)
    cupy.zeros = lambda *args: current().zeros(*args)
    cupy.copyto = lambda to, source: current().current_stream().add(lambda: np.copyto(to, source))
    cupy.take = lambda *args, **options: current().take(*args, **options)
    cupy.from_dlpack = cupy.asarray = lambda frames: frames.memory
    cupy.ascontiguousarray = np.asanyarray
    cupy.get_default_memory_pool = cupy.get_default_pinned_memory_pool = lambda: pool
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=device,
        Stream=StreamMaker,
        Event=lambda disable_timing=False: Event(current(), disable_timing),
        get_elapsed_time=get_elapsed_time,
        Module=LoadedModule,
        alloc_pinned_memory=lambda size: current().pinned(size),
        get_current_stream=lambda: current().current_stream(),
        set_allocator=lambda allocator: None,
        set_pinned_memory_allocator=lambda allocator: None,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=types.SimpleNamespace(
            CUDADriverError=CUDADriverError,
            funcSetAttribute=lambda ptr, attribute, value: current().attributes.append((attribute, value)),
            funcGetAttribute=lambda attribute, ptr: {4: 127, 3: 0, 1: 17408}[attribute],
            occupancyMaxActiveBlocksPerMultiprocessor=lambda ptr, threads, shared: 1,
        ),
    )
    module: types.ModuleType = cupy
    return module


def contains(raw: np.ndarray[Any, Any], pointer: int) -> bool:
    """Return whether a pointer is in a block of memory."""
    return bool(raw.ctypes.data <= pointer < raw.ctypes.data + raw.nbytes)
