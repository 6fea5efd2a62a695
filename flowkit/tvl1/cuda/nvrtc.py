"""NVIDIA's run-time compiler by ctypes: CUDA C++ to machine code, without a driver or a GPU."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import functools
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowkit.errors import BackendError, BackendUnavailableError

_REMEDY = "install nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12, or a CUDA toolkit"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """Machine code for one architecture, and the assembler's log."""

    cubin: bytes
    log: str


def library_paths(major: int | None = None) -> Iterator[Path]:
    """Yield paths where NVRTC may be: wheels, then toolkits; of one major version of CUDA, or any."""
    pattern = f"libnvrtc.so.{major}" if major else "libnvrtc.so.1[0-9]"
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(folder).glob(f"*/lib/{pattern}"), reverse=True)
    for root in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if root:
            yield from sorted(Path(root).glob(f"lib64/{pattern}"), reverse=True)
    found = ctypes.util.find_library("nvrtc")
    if found and re.fullmatch(pattern.replace(".", r"\."), found):
        yield Path(found)


def compile_options(defines: Mapping[str, float], architecture: int) -> tuple[str, ...]:
    """Return all options that decide the machine code of a kernel file."""
    macros = (f"-D{key}={value}" for key, value in sorted(defines.items()))
    return f"--gpu-architecture=sm_{architecture}", "-std=c++17", "--ptxas-options=-v", *macros


class Nvrtc:
    """The compiler's library, loaded.

    Parameters
    ----------
    path : Path
        Of libnvrtc.so.

    Raises
    ------
    OSError
        It does not load.
    """

    def __init__(self, path: Path) -> None:
        # NVRTC opens this library by its bare name, and wheels before 13.1 have no path to it inside.
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins))
        self._library = ctypes.CDLL(str(path))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = f"{major.value}.{minor.value}"

    def architectures(self) -> tuple[int, ...]:
        """Return the architectures that it compiles for, such as 90 for sm_90."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        numbers = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers))
        return tuple(numbers)

    def compile(
        self, name: str, sources: Mapping[str, str], defines: Mapping[str, float], architecture: int
    ) -> Compiled:
        """Compile one file of `sources`, which may include the others.

        Parameters
        ----------
        name : str
            A key of `sources`.
        sources : mapping from file name to text
        defines : mapping
            Macros and their values.
        architecture : int
            Such as 90 for sm_90; code for it runs on that major version only.

        Raises
        ------
        BackendError
            The source does not compile; the message holds the compiler's.
        """
        options = compile_options(defines, architecture)
        headers = {key: text for key, text in sources.items() if key != name}
        program = ctypes.c_void_p()
        created = self._library.nvrtcCreateProgram(
            *(ctypes.byref(program), sources[name].encode(), name.encode(), len(headers)),
            *(_strings(list(headers.values())), _strings(list(headers))),
        )
        self._check(created)
        try:
            status = self._library.nvrtcCompileProgram(program, len(options), _strings(options))
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                raise BackendError(f"{name} does not compile for sm_{architecture}: {log}")
            return Compiled(cubin=self._read(program, "CUBIN"), log=log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, status: int) -> None:
        if status:
            raise BackendError(f"NVRTC failed: {self._library.nvrtcGetErrorString(status).decode()}")


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))


@functools.cache
def load_nvrtc(major: int | None = None) -> Nvrtc:
    """Load the compiler, of one major version of CUDA or of any.

    Raises
    ------
    BackendUnavailableError
        There is none, or none that loads (not cached: it may be installed meanwhile).
    """
    failures = []
    for path in library_paths(major):
        try:
            return Nvrtc(path)
        except OSError as error:
            failures.append(str(error))
    cause = "; ".join(failures) or f"no libnvrtc of CUDA {major or '10 or later'} found"
    raise BackendUnavailableError(f"NVRTC, the CUDA compiler, is missing: {cause}; {_REMEDY}")
