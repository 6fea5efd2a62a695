"""Files of arrays, .npz: written whole, and read from anywhere without trust in the sizes that they claim."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.atomic import replacement

MOST_ARRAY_BYTES = 4 << 30
"""Of all arrays of an .npz file: scores and features of 100,000 clips and a backbone of 2048 channels."""

DAMAGE = (
    OSError,
    EOFError,
    MemoryError,  # of an array whose header claims more than there is
    ValueError,
    KeyError,
    TypeError,
    *(SyntaxError, tokenize.TokenError),  # of headers, whose text is divided as Python is
    OverflowError,
    struct.error,
    lzma.LZMAError,
    RuntimeError,  # zipfile's own for a member that seems encrypted, or packed otherwise
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that reading a damaged .npz file or its JSON raises."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays of an .npz file, or raise one of `DAMAGE`.

    A small file may claim any size: its members unpack to `MOST_ARRAY_BYTES` at most, and no header claims
    more than its member has.
    """
    if not path.is_file():  # a pipe may never end
        raise ValueError(f"{path.name} is absent, or no regular file")
    # Given a path, numpy would leave a damaged file open.
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as members:
            _check_members(members)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _check_members(members: zipfile.ZipFile) -> None:
    unpacked = sum(one.file_size for one in members.infolist())
    if unpacked > MOST_ARRAY_BYTES:
        raise ValueError(f"its arrays unpack to {unpacked} bytes, expected at most {MOST_ARRAY_BYTES}")
    for one in members.infolist():
        with members.open(one) as member:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else (np.lib.format.read_array_header_2_0)
            )
            shape, _, dtype = read_header(member)
        if math.prod(shape) * dtype.itemsize > one.file_size:
            raise ValueError(f"{one.filename} claims {shape} {dtype}, but has {one.file_size} bytes")


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write an .npz file, over an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Given a path, numpy would add its suffix to the temporary's name.
    with replacement(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
