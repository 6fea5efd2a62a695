"""Files of arrays: what they claim is held against what they have, before it is allocated."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gating import arrays
from gating.arrays import DAMAGE, read_arrays, write_arrays


def npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    data = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(data, about)
    return data.getvalue()


def test_arrays_come_back_with_their_types(tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.zeros(0),
        "c": np.array("text"),
        "d": np.int64(3),
    }
    write_arrays(tmp_path / "x.npz", made)
    found = read_arrays(tmp_path / "x.npz")
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        name: (np.asarray(one).dtype, np.shape(one)) for name, one in made.items()
    }


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.npy": header((10**6, 10**6)) + bytes(64)}, r"a\.npy claims \(1000000, 1000000\) float64, but"),
        ({"a.npy": header((10**30,)) + bytes(64)}, "claims"),
        ({"a.npy": header((1,), "<U1000000") + bytes(64)}, "claims"),
        ({"a.npy": bytes(100)}, "magic"),
        ({"a.npy": b"\x93NUMPY\x01\x00\xff\x27" + b"-" * 9000}, "."),
        ({"a.npy": b"\x93NUMPY\x01\x00\xff\x27" + b"(" * 10239}, "."),
    ],
    ids=["a terabyte", "beyond 64 bits", "a wide text", "no header", "signs", "brackets"],
)
def test_a_header_that_claims_more_than_there_is_is_damage(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    path = npz(tmp_path / "x.npz", members)
    tracemalloc.start()
    try:
        with pytest.raises(DAMAGE, match=message):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_what_unpacks_to_more_than_is_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_ARRAY_BYTES", 1 << 20)
    path = npz(tmp_path / "x.npz", {"a.npy": header((1 << 18,)) + bytes(1 << 21)})
    assert path.stat().st_size < 1 << 14
    with pytest.raises(DAMAGE, match=r"unpack to 2097\d+ bytes, expected at most 1048576"):
        read_arrays(path)


def test_a_pipe_is_damage_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DAMAGE, match=r"x\.npz is absent, or no regular file"):
        read_arrays(tmp_path / "x.npz")
