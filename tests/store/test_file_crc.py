"""The checksum of all that lies outside the chunks."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreCorruptError
from flowkit.store.addresses import stored_ranges
from flowkit.store.codecs import FLOW_CODECS
from flowkit.store.file_crc import NO_CHUNKS, file_state, reserve, stamp
from flowkit.store.hdf5_file import hdf5_writer
from flowkit.store.open_file import open_file
from tests.store.conftest import MakeStore, make_options


def state(path: Path, *, is_master: bool = False) -> str:
    with open_file(path) as file:
        return file_state(file, None if is_master else file.metadata.options)


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_it_is_the_crc_of_the_bytes_outside_the_chunks_and_itself(make_store: MakeStore, codec: str) -> None:
    path = make_store("a", "b/c", options=make_options(flow_codec=codec))
    with open_file(path) as file:
        ranges = stored_ranges(file, file.metadata.options)
        at = file["index/file_crc32"].id.get_offset()
        expected = int(file["index/file_crc32"][0])
    raw = path.read_bytes()
    is_outside = np.ones(len(raw), bool)
    for start, end in [*ranges.tolist(), (at, at + 4)]:
        is_outside[start:end] = False
    assert zlib.crc32(np.frombuffer(raw, np.uint8)[is_outside].tobytes()) == expected
    assert state(path) == "sound"


def test_each_byte_of_a_file_is_under_a_checksum(make_store: MakeStore) -> None:
    """Its chunks have their own; any other byte changes the state, or HDF5 opens the file no more."""
    path = make_store("a")
    raw = path.read_bytes()
    with open_file(path) as file:
        options, ranges = file.metadata.options, stored_ranges(file, file.metadata.options).tolist()
    for at in random.Random(1).sample(range(len(raw)), 300):
        if any(start <= at < end for start, end in ranges):
            continue
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 16]) + raw[at + 1 :])
        try:
            with h5py.File(path) as plain:
                assert file_state(plain, options) == "changed", at
        except (OSError, KeyError, RuntimeError, StoreCorruptError):
            continue  # HDF5's own checksum


def test_of_a_master_all_bytes_count(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    assert state(path, is_master=True) == "sound"
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"half to even")] ^= 1  # in the heap
    path.write_bytes(raw)
    assert state(path, is_master=True) == "changed"


def test_a_file_of_another_size_was_written_anew(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        file["mine"] = np.zeros(1000)
    assert state(path) == "rewritten"


def test_a_file_without_it_is_of_an_unknown_state(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        del file["index/file_crc32"]
    assert state(path) == "unknown"


def test_stamping_changes_size_and_checksum_alone(make_store: MakeStore) -> None:
    path = make_store("a")
    before = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["index"].attrs.modify("file_bytes", np.int64(0))
        file["index/file_crc32"][0] = 0
    with open_file(path) as opened:
        ranges = stored_ranges(opened, opened.metadata.options)
    stamp(path, ranges)
    assert path.read_bytes() == before
    with h5py.File(path) as file:
        assert file["index"].attrs["file_bytes"] == len(before)


def test_a_file_that_grows_while_it_is_stamped_is_refused(tmp_path: Path) -> None:
    """As where the index has no room for the attribute yet."""
    path = tmp_path / "x.h5"
    with hdf5_writer(path) as file:
        reserve(file)
        del file["index"].attrs["file_bytes"]
        # The header is full: one attribute more moves all of them elsewhere.
        file["index"].attrs.update({f"{k}": np.zeros(50) for k in range(8)})
    with pytest.raises(StoreCorruptError, match=r"x\.h5 changed its size while its index was finished"):
        stamp(path, NO_CHUNKS)
