"""Compile the shipped kernels for the host, and launch them on NumPy arrays."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[2] / "flowkit" / "tvl1" / "cuda" / "kernels"
COMPILER = shutil.which("g++") or shutil.which("c++")
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-U_FORTIFY_SOURCE")
WARNINGS_OFF = ("-Wno-unknown-pragmas", "-Wno-unused-parameter")

IN_TURN, LAST_FIRST, RANDOM = 0, 1, 2


class EmulationError(RuntimeError):
    """A launch that would hang, or misuse what the GPU offers."""


class CompileError(Exception):
    """Kernels that are no C++."""


def read_sources() -> dict[str, str]:
    """Return the shipped kernel sources by file name."""
    return {path.name: path.read_text() for path in sorted(KERNELS.glob("*.cu*"))}


@functools.cache
def _build_folder() -> Path:
    """Return $FLOWKIT_EMULATION_DIR, which processes can share, or a folder of this process's own."""
    shared = os.environ.get("FLOWKIT_EMULATION_DIR")
    if shared:
        Path(shared).mkdir(parents=True, exist_ok=True)
        return Path(shared)
    folder = Path(tempfile.mkdtemp(prefix="flowkit-emulation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _needed(source: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return a file and all that it includes."""
    needed: dict[str, str] = {}
    waiting = [source]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = texts[name]
            waiting += re.findall(r'^#include "(\w+\.cuh)"', texts[name], re.MULTILINE)
    return needed


def _compile(output: Path, arguments: Sequence[str]) -> Path:
    """Run the compiler, and put its output into place whole."""
    scratch = output.with_suffix(f".{os.getpid()}")
    command = [str(COMPILER), *FLAGS, *arguments, "-o", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"{output.stem} does not compile for the host:\n{done.stderr}")
    return scratch.rename(output)


def _write(path: Path, text: str) -> None:
    """Write a file whole: another process may compile it."""
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(text)
    scratch.rename(path)


def _key(*words: object) -> str:
    return hashlib.sha256(repr((FLAGS, *words)).encode()).hexdigest()[:16]


@functools.cache
def _runtime() -> Path:
    """Return the emulation itself, compiled once."""
    texts = [(HERE / name).read_text() for name in ("emulation.hpp", "emulation.cpp")]
    output = _build_folder() / f"emulation-{_key(texts)}.o"
    return output if output.exists() else _compile(output, ["-c", str(HERE / "emulation.cpp")])


def build(source: str, defines: Mapping[str, float], sources: Mapping[str, str] | None = None) -> Path:
    """Compile one kernel file, from `sources` (faults planted, say) or as it is shipped."""
    texts = _needed(source, read_sources() if sources is None else sources)
    kernels = re.findall(r"\b(flowkit_\w+)\(", "".join(re.findall(r'extern "C"[^{]*', texts[source])))
    options = [f"-D{key}={value}" for key, value in sorted(defines.items())]
    options += [
        f'-DFLOWKIT_SOURCE="{source}"',
        "-DFLOWKIT_KERNELS=" + "".join(f"KERNEL({k})" for k in kernels),
    ]
    # A planted fault may leave a variable unused; the shipped kernels may not.
    options += ["-Wall", "-Wextra", "-Werror", *WARNINGS_OFF] if sources is None else ["-w"]
    library = (HERE / "library.cpp").read_text()
    folder = _build_folder() / _key(options, library, _runtime().name, sorted(texts.items()))
    output = folder / f"{Path(source).stem}.so"
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _write(folder / name, text)
        paths = [f"-I{HERE}", f"-I{folder}", str(HERE / "library.cpp"), str(_runtime())]
        _compile(output, [*options, "-shared", *paths])
    return output


@functools.cache
def _open(library: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(library))
    loaded.emulate.restype = ctypes.c_char_p
    loaded.set_schedule.argtypes = [ctypes.c_int, ctypes.c_ulonglong]
    return loaded


def _storage(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    types: dict[type, Callable[[Any], Any]] = {
        np.int32: ctypes.c_int32,
        np.uint64: ctypes.c_uint64,
        np.float32: ctypes.c_float,
        np.float64: ctypes.c_double,
    }
    return types[type(value)](value.item())


class Module:
    """The kernels of one file, compiled for the host."""

    def __init__(
        self,
        source: str,
        defines: Mapping[str, float] | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.defines = dict(defines or {})
        self._library = _open(build(source, self.defines, sources))

    def set_schedule(self, kind: int, seed: int = 0) -> None:
        """Choose how the fibres of a block are interleaved."""
        self._library.set_schedule(kind, seed)

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        """Run one kernel to its end; arguments are arrays and NumPy scalars of the exact types."""
        held = [_storage(arg) for arg in args]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(item) for item in held))
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        error = self._library.emulate(
            name.encode(),
            *sizes,
            int(self.defines.get("FLOWKIT_CLUSTER", 0)),
            ctypes.c_longlong(shared_mem),
            pointers,
            len(held),
        )
        if error:
            raise EmulationError(f"{name}: {error.decode()}")
