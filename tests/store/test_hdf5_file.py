from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from flowkit.store import checked_hdf5, hdf5_file
from flowkit.store.hdf5_file import DatasetCreator, OutFile, hdf5_writer, uninterrupted, write_attrs
from flowkit.store.record import Attributes


def test_file_written_through_is_plain_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with hdf5_writer(path) as file:
        file["x"] = np.arange(5)
    with hdf5_writer(path, "r+") as file:
        file["x"][2] = 9
    with h5py.File(path) as file:
        assert file["x"][()].tolist() == [0, 1, 9, 3, 4]


def test_failed_write_is_reported_once_everything_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    files: list[h5py.File] = []

    def work() -> None:
        with hdf5_writer(tmp_path / "a.h5") as file:
            files.append(file)
            file["x"] = np.arange(5)
            monkeypatch.setattr(os, "pwrite", fail)

    with pytest.raises(OSError, match="Input/output error"):
        work()
    monkeypatch.undo()
    assert not files[0]  # closed, not left to the end of the process


def test_error_inside_is_reported_rather_than_what_follows_from_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"), hdf5_writer(tmp_path / "a.h5"):
        raise KeyError("mine")


def test_writes_that_the_system_takes_in_part_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    out = OutFile(tmp_path / "a", "w")
    out.seek(2)
    assert out.write(b"0123456789") == 10
    assert (out.tell(), out.seek(0, os.SEEK_END)) == (12, 12)
    out.close()
    out.check()
    assert (tmp_path / "a").read_bytes() == b"\0\x000123456789"


def test_reading_beyond_the_end_gives_zeros(tmp_path: Path) -> None:
    out = OutFile(tmp_path / "a", "w")
    out.write(b"ab")
    buffer = bytearray(b"xxxx")
    out.seek(1)
    out.readinto(buffer)
    out.truncate(1)
    out.close()
    assert bytes(buffer) == b"b\0\0\0"
    assert (tmp_path / "a").read_bytes() == b"a"


def test_attributes_are_those_of_plain_h5py_and_replaced_where_they_exist(tmp_path: Path) -> None:
    wanted = {"text": str, "empty": str, "number": int, "fraction": float}
    first: Attributes = {"text": "früh", "empty": "", "number": 2**40, "fraction": 0.1}
    second: Attributes = {"text": "a much longer text than before", "number": -1}
    with hdf5_writer(tmp_path / "a.h5") as file:
        write_attrs(file, first)
        assert checked_hdf5.read_attrs(file, wanted) == first
        write_attrs(file, second)
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file.attrs) == first | second == checked_hdf5.read_attrs(file, wanted)
        assert h5py.h5a.open(file.id, b"text").dtype == h5py.string_dtype("utf-8")
        assert file.attrs.get_id("number").dtype == np.dtype("<i8")
        # An attribute of another type than wanted counts as absent.
        assert checked_hdf5.read_attrs(file, {"text": int, "number": str}) == {}


@pytest.mark.parametrize("head_bytes", [0, 5, 64, 1 << 20])
def test_a_new_file_reads_and_ends_the_same_wherever_its_head_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head_bytes: int
) -> None:
    monkeypatch.setattr(hdf5_file, "HEAD_BYTES", head_bytes)
    out = OutFile(tmp_path / "a", "w")
    out.write(b"abcdef")
    out.seek(2)
    out.write(b"XY")
    out.seek(10)
    out.write(b"end")
    assert out.seek(0, os.SEEK_END) == 13
    out.seek(4)
    read = bytearray(b"???????????????")
    assert out.readinto(read) == 15
    assert bytes(read) == b"ef\0\0\0\0end\0\0\0\0\0\0"
    assert out.truncate(20) == 20
    assert out.truncate(12) == 12
    out.sync()
    out.seek(11)
    out.write(b"!")
    out.close()
    out.check()
    assert (tmp_path / "a").read_bytes() == b"abXYef\0\0\0\0e!"


def test_what_is_held_in_memory_fails_on_a_full_disk_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    out = OutFile(tmp_path / "full", "w")
    out.write(b"abc")
    out.check()
    out.close()
    with pytest.raises(OSError, match="No space left"):
        out.check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", ["seek", "write", "truncate", "close"])
def test_an_interrupt_waits_until_hdf5_is_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: signal.Signals
) -> None:
    """Below HDF5 the exception would be lost, or become that of a look-up, and the file a torn one."""
    real, came = getattr(OutFile, call), 0

    def interrupted(self: OutFile, *args: object) -> object:
        nonlocal came
        came += 1
        signal.raise_signal(number)
        return real(self, *args)

    before = signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(OutFile, call, interrupted)
    path = tmp_path / "a.h5"
    try:
        with pytest.raises(KeyboardInterrupt), hdf5_writer(path) as file:  # noqa: PT012
            file["x"] = np.arange(5)
            file["x"].file.flush()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert came
    with h5py.File(path) as file:
        assert file["x"][()].tolist() == [0, 1, 2, 3, 4]


def test_a_signal_between_two_handlers_that_are_restored_loses_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first is back, and raises for a signal that comes at once: the second is restored all the same."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (2, 15)}
    real, sent = signal.signal, False

    def signalling(number: int, handler: Any) -> Any:
        nonlocal sent
        found = real(number, handler)
        if handler is signal.default_int_handler and not sent:
            sent = True
            signal.raise_signal(number)
        return found

    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), uninterrupted():
            patch.setattr(signal, "signal", signalling)
        assert sent
        assert {signal.getsignal(number) for number in (2, 15)} == {signal.default_int_handler}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_an_interrupt_ends_the_outermost_of_two_that_put_it_off() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                steps.append("inner")
            steps.append("outer")
        steps.append("after")
    assert steps == ["inner", "outer"]


@pytest.mark.parametrize("count", [1, 8, 9])
def test_checked_values_are_found_damaged_by_hdf5_itself(tmp_path: Path, count: int) -> None:
    path, values = tmp_path / "x.h5", np.arange(1, count + 1, dtype="<u4")
    with hdf5_writer(path) as file:
        DatasetCreator(file).array("values", values, chunk=min(count, 8))
    with h5py.File(path) as file:
        assert np.array_equal(file["values"][()], values)
        place = file["values"].id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with h5py.File(path) as file, pytest.raises(OSError, match="filter returned failure"):
        file["values"][()]


@pytest.mark.parametrize(("chunk", "fill"), [(None, None), (3, None), (3, -1)])
def test_an_array_is_what_h5py_would_have_created(
    tmp_path: Path, chunk: int | None, fill: float | None
) -> None:
    values = np.arange(5, dtype="<i8")
    with hdf5_writer(tmp_path / "a.h5") as file:
        DatasetCreator(file).array("ours", values, chunk=chunk, fill=fill)
        chunks = None if chunk is None else (chunk,)
        file.create_dataset("theirs", data=values, chunks=chunks, fletcher32=bool(chunk), fillvalue=fill)
    with h5py.File(tmp_path / "a.h5") as file:
        ours, theirs = file["ours"], file["theirs"]
        assert np.array_equal(ours[()], theirs[()])
        assert (ours.dtype, ours.chunks, ours.fillvalue) == (theirs.dtype, theirs.chunks, theirs.fillvalue)
        assert ours.id.get_create_plist().equal(theirs.id.get_create_plist())


@pytest.mark.parametrize(("dtype", "shuffled", "fill"), [("i1", False, -128), ("<i2", True, None)])
def test_a_stack_is_what_h5py_would_have_created(
    tmp_path: Path, dtype: str, shuffled: bool, fill: float | None
) -> None:
    with hdf5_writer(tmp_path / "a.h5") as file:
        made = DatasetCreator(file).stack(
            "ours", (2, 3, 4), np.dtype(dtype), deflate_level=5, shuffled=shuffled, fill=fill
        )
        made.set_extent((7, 2, 3, 4))
        file.create_dataset(
            "theirs",
            shape=(7, 2, 3, 4),
            maxshape=(None, 2, 3, 4),
            chunks=(1, 2, 3, 4),
            dtype=dtype,
            compression="gzip",
            compression_opts=5,
            shuffle=shuffled,
            fillvalue=fill,
        )
    with h5py.File(tmp_path / "a.h5") as file:
        ours, theirs = file["ours"], file["theirs"]
        assert np.array_equal(ours[()], theirs[()])
        assert (ours.dtype, ours.shape, ours.maxshape) == (theirs.dtype, theirs.shape, theirs.maxshape)
        assert ours.id.get_create_plist().equal(theirs.id.get_create_plist())
