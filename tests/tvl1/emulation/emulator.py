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
KERNELS = HERE.parents[2] / "flowkit" / "tvl1" / "kernels"
COMPILER = shutil.which("g++") or shutil.which("c++")
FLAGS = (
    *("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"),
    *("-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter"),
)

IN_TURN, LAST_FIRST, RANDOM = 0, 1, 2


class EmulationError(RuntimeError):
    """A launch that would hang, or misuse what the GPU offers."""


def read_sources() -> dict[str, str]:
    """Return the shipped kernel sources by file name."""
    return {path.name: path.read_text() for path in sorted(KERNELS.glob("*.cu*"))}


@functools.cache
def _build_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="flowkit-emulation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build(source: str, defines: Mapping[str, int], sources: Mapping[str, str] | None = None) -> Path:
    """Compile one kernel file, from `sources` (faults planted, say) or as it is shipped."""
    texts = read_sources() if sources is None else dict(sources)
    names = re.findall(r"\b(flowkit_\w+)\(", "".join(re.findall(r'extern "C"[^{]*', texts[source])))
    kernels = " ".join(f"KERNEL({name})" for name in names)
    options = [f"-D{key}={value}" for key, value in sorted(defines.items())]
    own = "".join(path.read_text() for path in sorted(HERE.glob("*.?pp")))
    key = hashlib.sha256(repr((source, options, FLAGS, own, sorted(texts.items()))).encode()).hexdigest()[:16]
    folder = _build_folder() / key
    library = folder / f"{Path(source).stem}.so"
    if library.exists():
        return library
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    scratch = library.with_suffix(f".{os.getpid()}")
    command = [str(COMPILER), *FLAGS, *options, f"-I{HERE}", f"-I{folder}"]
    command += [f'-DFLOWKIT_SOURCE="{source}"', f"-DFLOWKIT_KERNELS={kernels}"]
    command += [str(HERE / "library.cpp"), str(HERE / "emulation.cpp"), "-o", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{source} does not compile for the host:\n{done.stderr}")
    scratch.rename(library)
    return library


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
        self, source: str, defines: Mapping[str, int] | None = None, sources: Mapping[str, str] | None = None
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
            self.defines.get("FLOWKIT_CLUSTER", 1),
            ctypes.c_longlong(shared_mem),
            pointers,
            len(held),
        )
        if error:
            raise EmulationError(f"{name}: {error.decode()}")
