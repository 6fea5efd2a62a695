from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError
from flowkit.store.codecs import deflate, flow_codec
from flowkit.store.codecs.deflate import crc32, decode_chunk, encode_chunk, shuffle, unshuffle

WITH_OR_WITHOUT = pytest.mark.parametrize("library", ["installed", "zlib"], indirect=True)


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the library that is installed, or zlib as if libdeflate were not."""
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "_deflate", None)


def codes(dtype: str) -> NDArray[np.integer]:
    return np.random.default_rng(0).integers(-99, 100, (2, 6, 5)).astype(dtype)


def test_without_libdeflate_zlib_reads_and_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = np.random.default_rng(0).normal(0, 3, (2, 9, 9)).astype(np.float32)
    (there,) = flow_codec("i8").encode(flow).chunks
    monkeypatch.setattr(deflate, "_deflate", None)
    (here,) = flow_codec("i8").encode(flow).chunks
    assert deflate.deflate_library().startswith("zlib")
    codes = flow_codec("i8").unpack([there], (9, 9))
    assert np.array_equal(codes, flow_codec("i8").unpack([here], (9, 9)))
    for wrong in (here[:-5], b"", b"x" * 100, zlib.compress(bytes(500))):
        with pytest.raises(StoreCorruptError):
            flow_codec("i8").unpack([wrong], (9, 9))


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", zlib.compress(bytes(99)), zlib.compress(bytes(101)), zlib.compress(bytes(100))[:-3]],
)
def test_chunks_of_another_size_or_none_at_all_are_corrupt(data: bytes) -> None:
    with pytest.raises(StoreCorruptError):
        decode_chunk(data, dtype=np.dtype("i1"), shape=(5, 10), shuffled=False)


def test_size_is_held_to_the_bytes_before_anything_is_allocated() -> None:
    with pytest.raises(StoreCorruptError, match="cannot hold"):
        flow_codec("i16").unpack([zlib.compress(bytes(100))], (60_000, 60_000))


@given(arrays(np.int16, (2, 3, 5)))
def test_shuffle_is_undone(codes: NDArray[np.int16]) -> None:
    assert np.array_equal(unshuffle(shuffle(codes), codes.dtype), codes.ravel())


@pytest.mark.parametrize(("dtype", "shuffled"), [("i1", False), ("<i2", False), ("<i2", True)])
@WITH_OR_WITHOUT
def test_a_chunk_gives_back_its_codes(library: None, dtype: str, shuffled: bool) -> None:
    wanted = codes(dtype)
    found = decode_chunk(
        encode_chunk(wanted, shuffled=shuffled), dtype=wanted.dtype, shape=(6, 5), shuffled=shuffled
    )
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("dtype", "shuffled"), [("i1", False), ("<i2", True)])
def test_hdf5s_own_filters_read_a_chunk_and_write_one_that_is_read(
    tmp_path: Path, dtype: str, shuffled: bool
) -> None:
    wanted = codes(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        ours, theirs = (
            file.create_dataset(
                name, (1, 2, 6, 5), dtype, chunks=(1, 2, 6, 5), compression="gzip", shuffle=shuffled
            )
            for name in ("ours", "theirs")
        )
        ours.id.write_direct_chunk((0, 0, 0, 0), encode_chunk(wanted, shuffled=shuffled))
        assert np.array_equal(ours[0], wanted)
        theirs[0] = wanted
        chunk = theirs.id.read_direct_chunk((0, 0, 0, 0))[1]
        found = decode_chunk(chunk, dtype=wanted.dtype, shape=(6, 5), shuffled=shuffled)
    assert np.array_equal(found, wanted)


def test_shuffled_bytes_are_all_first_then_all_second() -> None:
    assert shuffle(np.array([0x0102, 0x0304, 0x0506], "<i2")) == bytes([2, 4, 6, 1, 3, 5])
    assert unshuffle(bytes([2, 4, 6, 1, 3, 5]), np.dtype("<i2")).tolist() == [0x0102, 0x0304, 0x0506]


@WITH_OR_WITHOUT
def test_crc_is_zlibs(library: None) -> None:
    # The check value of CRC-32, as in its catalogue of parameters.
    assert crc32(b"123456789") == 0xCBF43926
    data = np.random.default_rng(0).bytes(5000)
    assert crc32(memoryview(data)[7:]) == zlib.crc32(data[7:])
    assert crc32(b"") == 0


@WITH_OR_WITHOUT
def test_the_library_is_named_as_it_is_used(library: None) -> None:
    name, version = deflate.deflate_library().split()
    assert name == ("deflate" if deflate.has_libdeflate() else "zlib")
    assert version[0].isdigit()


@WITH_OR_WITHOUT
def test_a_field_that_is_too_small_states_both_sizes(library: None) -> None:
    with pytest.raises(StoreCorruptError, match="chunk inflates to 99 bytes, expected 100"):
        decode_chunk(zlib.compress(bytes(99)), dtype=np.dtype("i1"), shape=(5, 10), shuffled=False)
