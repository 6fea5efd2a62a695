"""The kernel sources, and their machine code: compiled once, then kept on disk.

The cache is a folder of files named after all that decides their contents: sources, options (macros
and architecture among them), compiler. Its files never change, so processes can share it freely.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from flowkit import atomic
from flowkit.errors import BackendUnavailableError
from flowkit.tvl1.cuda.nvrtc import Nvrtc, compile_options, load_nvrtc

FOLDER = Path(__file__).parent / "kernels"

OLDEST_ARCHITECTURE = 75
"""Turing: the oldest that the kernels are compiled and checked for."""

_DIGEST_BYTES = 32


@functools.cache
def sources() -> dict[str, str]:
    """Return every kernel file's text by its name."""
    return {path.name: path.read_text() for path in sorted(FOLDER.glob("*.cu*"))}


def cache_folder() -> Path:
    """Return the folder of compiled kernels: $FLOWKIT_CACHE_DIR, or flowkit in the user's cache."""
    chosen = os.environ.get("FLOWKIT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "flowkit"


def target_architecture(capability: int, nvrtc: Nvrtc) -> int:
    """Return the architecture to compile for: the GPU's, or the nearest older one of its family.

    Parameters
    ----------
    capability : int
        Ten times the GPU's compute capability.

    Raises
    ------
    BackendUnavailableError
        The compiler knows none, or the GPU is older than OLDEST_ARCHITECTURE.
    """
    if capability < OLDEST_ARCHITECTURE:
        raise BackendUnavailableError(
            f"the GPU is too old: compute capability {capability / 10}, "
            f"expected {OLDEST_ARCHITECTURE / 10} or newer; use backend 'cpu'"
        )
    usable = [a for a in nvrtc.architectures() if a // 10 == capability // 10 and a <= capability]
    if not usable:
        raise BackendUnavailableError(
            f"NVRTC {nvrtc.version} does not know compute capability {capability / 10}; "
            "install a newer nvidia-cuda-nvrtc"
        )
    return max(usable)


def cubin(
    source: str, defines: Mapping[str, float], capability: int, *, cuda_major: int | None = None
) -> bytes:
    """Return the machine code of one kernel file for a GPU, from the cache or compiled now.

    Parameters
    ----------
    source : str
        File name, such as "tile.cu".
    defines : mapping
        Macros and their values.
    capability : int
        Ten times the GPU's compute capability.
    cuda_major : int, optional
        Version of CUDA whose compiler to use; default: any.

    Raises
    ------
    BackendUnavailableError
        No compiler, or none for this GPU.
    BackendError
        The source does not compile.
    """
    nvrtc = load_nvrtc(cuda_major)
    architecture = target_architecture(capability, nvrtc)
    words = (source, compile_options(defines, architecture), nvrtc.version, sorted(sources().items()))
    key = hashlib.sha256(repr(words).encode()).hexdigest()[:24]
    path = cache_folder() / f"{Path(source).stem}-sm{architecture}-{key}.bin"
    code = _read(path)
    if code is None:
        code = nvrtc.compile(source, sources(), defines, architecture).cubin
        _write(path, code)
    return code


def _read(path: Path) -> bytes | None:
    """Return the file's code, or None where there is none or it is damaged."""
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    digest, code = contents[:_DIGEST_BYTES], contents[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not synced: what a power cut leaves torn is found by its digest and compiled again.
        atomic.write_bytes(path, hashlib.sha256(code).digest() + code, durable=False)
    except OSError as error:
        warnings.warn(
            f"compiled kernels cannot be kept ({error}), so that each start compiles them again; "
            "name a writable folder in FLOWKIT_CACHE_DIR",
            RuntimeWarning,
            stacklevel=2,
        )
