"""One GPU through cupy: memory, streams, kernels. cupy is imported on first use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flowkit.errors import BackendUnavailableError, InvalidParameterError
from flowkit.tvl1.cuda import driver
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda.faults import DeviceFaults, Event
from flowkit.tvl1.cuda.nvrtc import load_nvrtc

_REMEDY = "install cupy with `pip install .[cuda12]` or `.[cuda13]`, whichever nvidia-smi names"

# CUfunction_attribute of the driver's interface.
_MAX_DYNAMIC_SHARED_BYTES = 8
_NON_PORTABLE_CLUSTER_SIZE = 14

# Compute capabilities 9.x and 10.x; 12.x has less shared memory, and portable clusters alone.
_CLUSTER_FAMILIES = (9, 10)

THREADS = 256
"""Threads of a block where a kernel leaves the choice."""

DeviceArray = Any
"""A cupy.ndarray."""

NULL = np.uint64(0)
"""A null pointer as a kernel's argument."""


def or_null(array: DeviceArray | None) -> DeviceArray:
    """Return a kernel's argument: the array, or a null pointer for None."""
    return NULL if array is None else array


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KernelFile:
    """A kernel file with the macros it is compiled with."""

    source: str
    defines: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, source: str, defines: Mapping[str, float]) -> KernelFile:
        """Return the file with these macros."""
        return cls(source=source, defines=tuple(sorted(defines.items())))


class CudaDevice:
    """One GPU, and the kernels loaded on it.

    Parameters
    ----------
    cupy : module
    index : int
        Of the GPU among those that CUDA shows to this process.

    Attributes
    ----------
    faults : DeviceFaults
        The boundary around calls into the driver, and the waits for events.
    """

    def __init__(self, cupy: Any, index: int) -> None:
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        self.cupy = cupy
        self.index = index
        self.name: str = properties["name"].decode()
        self.capability: int = 10 * properties["major"] + properties["minor"]
        self.processors: int = properties["multiProcessorCount"]
        self.shared_bytes: int = properties["sharedMemPerBlockOptin"]
        self.cuda_major: int = cupy.cuda.runtime.runtimeGetVersion() // 1000
        self.faults = DeviceFaults(cupy, f"GPU {index} ({self.name})")
        self._functions: dict[tuple[KernelFile, str, int], Any] = {}
        self._modules: dict[KernelFile, Any] = {}
        self._idle_streams: list[Any] = []
        self._kept: list[tuple[Event, object]] = []
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def has_clusters(self) -> bool:
        """True if the cluster solver's kernel runs here."""
        return self.capability // 10 in _CLUSTER_FAMILIES

    def enter_thread(self) -> None:
        """Make this the device of a thread that nobody else uses.

        Leaving `using` makes the one before current again; that would be GPU 0, and open a context there.
        """
        with self.faults.boundary():
            self.cupy.cuda.runtime.setDevice(self.index)

    @contextlib.contextmanager
    def using(self, stream: Any = None) -> Iterator[None]:
        """Make this the current device, and `stream` (default: the current one) its stream."""
        with self.cupy.cuda.Device(self.index), stream or contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def own_stream(self) -> Iterator[None]:
        """Work on a stream of this caller alone; all is done when the context ends."""
        try:
            stream = self._idle_streams.pop()
        except IndexError:
            with self.using():
                stream = self.cupy.cuda.Stream(non_blocking=True)
        with self.using(stream):
            try:
                yield
            except BaseException:  # memory must not be used again before the work with it is done
                # A GPU that failed does none, and what it says now is not the cause.
                with contextlib.suppress(Exception):
                    self.faults.wait(self.event())
                raise
            self.faults.wait(self.event())
        # Kept, since cupy's pool keeps memory by stream.
        self._idle_streams.append(stream)

    def keep_until_done(self, resource: object) -> None:
        """Keep host memory that work on the current stream still writes to.

        cupy's pool reuses pinned memory as soon as no Python object refers to it.
        """
        with self._lock:
            self._kept = [kept for kept in self._kept if not self.faults.happened(kept[0])]
            self._kept.append((self.event(), resource))

    def event(self) -> Event:
        """Return an event recorded now on the current stream."""
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record()
        recorded: Event = event
        return recorded

    def mark(self) -> Event:
        """Return an event recorded now on the current stream, to measure time with."""
        event = self.cupy.cuda.Event(disable_timing=False)
        event.record()
        recorded: Event = event
        return recorded

    def seconds_between(self, first: Event, second: Event) -> float:
        """Return the time between two marks of one stream; both must have happened."""
        return float(self.cupy.cuda.get_elapsed_time(first, second)) / 1e3

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Return an array of undefined values, of the current stream."""
        return self.cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Return an array of zeros, of the current stream."""
        return self.cupy.zeros(shape, dtype)

    def upload(self, values: NDArray[np.generic]) -> DeviceArray:
        """Copy an array to the device, after what the current stream has to do."""
        array = self.cupy.empty(values.shape, values.dtype)
        # Without a stream, set() would copy at once, before earlier work that still uses the memory.
        array.set(np.ascontiguousarray(values), stream=self.cupy.cuda.get_current_stream())
        return array

    def download_into(self, host: NDArray[np.generic], array: DeviceArray) -> None:
        """Enqueue a copy to pinned host memory on the current stream."""
        array.get(stream=self.cupy.cuda.get_current_stream(), out=host, blocking=False)

    def take(self, array: DeviceArray, indices: NDArray[np.intp]) -> DeviceArray:
        """Return a copy of some entries along the first axis."""
        return self.cupy.take(array, self.upload(indices), axis=0)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        """Return a pinned host array, for copies to and from the device beside the host's work."""
        count = int(np.prod(shape))
        memory = self.cupy.cuda.alloc_pinned_memory(max(1, count * np.dtype(dtype).itemsize))
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def free_bytes(self) -> int:
        """Return the free memory in bytes, that which cupy's pool keeps unused included."""
        with self.using():
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self.cupy.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        """Give the memory that cupy's pools keep unused back to the GPU and the host."""
        with self.using():
            self.cupy.get_default_memory_pool().free_all_blocks()
            self.cupy.get_default_pinned_memory_pool().free_all_blocks()

    def launch(
        self,
        kernel: tuple[KernelFile, str],
        grid: tuple[int, ...],
        threads: int,
        args: tuple[object, ...],
        *,
        shared_bytes: int = 0,
        level: int | None = None,
    ) -> None:
        """Launch a kernel on the current stream.

        Parameters
        ----------
        kernel : (KernelFile, str)
            Compiled and loaded when it is first launched.
        grid : tuple of int
        threads : int
            Of a block.
        args : tuple
            Device arrays and NumPy scalars, of exactly the kernel's types.
        shared_bytes : int
            Of a block, beyond what the kernel declares.
        level : int, optional
            Of the pyramid, for the message if the launch fails.

        Raises
        ------
        BackendError
            The kernel does not compile. The driver's own errors pass `DeviceFaults.boundary`.
        """
        self.faults.launching(kernel[1], level)
        function = self.function(*kernel, shared_bytes=shared_bytes)
        function((*grid, 1, 1)[:3], (threads, 1, 1), args, shared_mem=shared_bytes)

    def function(self, file: KernelFile, name: str, *, shared_bytes: int = 0) -> Any:
        """Return a kernel, compiled and loaded on first use, that may take so much shared memory."""
        key = (file, name, shared_bytes)
        if key not in self._functions:
            # Several lanes may ask for a kernel first: one of them compiles it, and the others wait for that.
            with self.faults.without_deadline():
                self._loading.acquire()
            try:
                self._load(key)
            finally:
                self._loading.release()
        return self._functions[key]

    def _load(self, key: tuple[KernelFile, str, int]) -> None:
        file, name, shared_bytes = key
        if key not in self._functions:
            function = self._module(file).get_function(name)
            if shared_bytes:
                attribute = self.cupy.cuda.driver.funcSetAttribute
                attribute(function.ptr, _MAX_DYNAMIC_SHARED_BYTES, shared_bytes)
                attribute(function.ptr, _NON_PORTABLE_CLUSTER_SIZE, 1)
            self._functions[key] = function

    def _module(self, file: KernelFile) -> Any:
        if file not in self._modules:
            defines = dict(file.defines)
            with self.faults.without_deadline():
                code = cuda_kernels.cubin(file.source, defines, self.capability, cuda_major=self.cuda_major)
            module = self.cupy.cuda.Module()
            module.load(code)
            self._modules[file] = module
        return self._modules[file]


def blocks(count: int, threads: int = THREADS) -> int:
    """Return the number of blocks that cover `count` threads."""
    return -(-count // threads)


def device_of_pointer(pointer: int) -> int:
    """Return the index of the GPU whose memory a pointer is in.

    Raises
    ------
    InvalidParameterError
        It is no memory of a GPU.
    """
    cupy, cause = _cupy(), "it is the host's"
    try:
        index = int(cupy.cuda.runtime.pointerGetAttributes(pointer).device)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        index, cause = -1, str(error)
    if index < 0:
        raise InvalidParameterError(f"the frames must be in a GPU's memory, got {pointer:#x}: {cause}")
    return index


def count_gpus() -> int:
    """Return the number of GPUs that CUDA shows to this process.

    Raises
    ------
    BackendUnavailableError
        No cupy, or no driver; the message names it.
    """
    cupy = _cupy()
    driver.check_driver()
    return _count(cupy)


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise BackendUnavailableError(f"cuda: cupy does not import ({error}); {_REMEDY}") from error


def _count(cupy: Any) -> int:
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(
            f"cuda: no usable GPU: {error}; check that nvidia-smi runs and that cupy is for its CUDA"
        ) from error


@functools.cache
def open_device(index: int) -> CudaDevice:
    """Return a GPU that the kernels can run on (memoised: one per GPU and process).

    Raises
    ------
    BackendUnavailableError
        No cupy, no driver, no such GPU, one too old, or no compiler; the message names it.
    """
    cupy = _cupy()
    driver.check_driver()
    count = _count(cupy)
    if not 0 <= index < count:
        raise BackendUnavailableError(
            f"cuda: no GPU {index}: CUDA shows {count} to this process; see CUDA_VISIBLE_DEVICES"
        )
    try:
        device = CudaDevice(cupy, index)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(f"cuda: GPU {index} cannot be used: {error}; see nvidia-smi") from error
    cuda_kernels.target_architecture(device.capability, load_nvrtc(device.cuda_major))
    return device
