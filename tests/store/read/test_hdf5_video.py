"""A video read through HDF5: stored bytes, their checks, and what a malformed group is refused for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit import jpeg
from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError
from flowkit.store.codecs import FLOW_CODECS
from flowkit.store.metadata import read_records
from flowkit.store.open_file import open_file
from flowkit.store.read.hdf5_video import Hdf5Video
from flowkit.store.read.store import open_store
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions
from tests.store.conftest import N_FRAMES, MakeStore, make_frames, make_options, make_record

Edit = Callable[[h5py.Group], object]


@contextmanager
def video(path: Path, video_id: str = "a", *, check: bool = True) -> Iterator[Hdf5Video]:
    """Open one video of a single-file store, without its index."""
    with open_file(path) as file:
        (record,) = read_records(file, [video_id]).values()
        assert isinstance(record, VideoRecord)
        yield Hdf5Video(file, record, file.metadata.options, check=check)


def edited(path: Path, edit: Edit) -> Path:
    with h5py.File(path, "r+") as file:
        edit(file["videos/a"])
    return path


def replaced(name: str, data: Callable[[h5py.Dataset], object], **options: object) -> Edit:
    """Put a dataset made of the old one in its place."""

    def edit(group: h5py.Group) -> None:
        new = data(group[name])
        del group[name]
        group.create_dataset(name, data=new, **options)

    return edit


def test_checks_can_be_skipped(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        file["videos/a/flow_crc32"][1] ^= 1
    with open_store(path, access="h5py") as store, pytest.raises(StoreCorruptError, match="CRC"):
        store["a"].flow()
    with open_store(path, access="h5py", check=False) as store:
        assert store["a"].flow().any()


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_chunks_are_the_stored_bytes_of_each_pair(make_store: MakeStore, codec: str) -> None:
    path = make_store("a", options=make_options(flow_codec=codec))
    raw = path.read_bytes()
    with h5py.File(path) as file:
        names = [f"index/{field}_{kind}" for field in ("flow", "frame") for kind in ("addr", "nbytes")]
        places = [file[name][()].tolist() for name in names]
    flow = [raw[at : at + size] for at, size in zip(*places[:2], strict=True)]
    frames = [raw[at : at + size] for at, size in zip(*places[2:], strict=True)]
    with video(path) as read:
        field = read.field("flow")
        assert [chunk for k in range(N_FRAMES - 1) for chunk in field.chunks(k)] == flow
        assert [read.frames[k] for k in range(N_FRAMES)] == frames
        assert list(read.frames.each([2, 0, 2])) == [frames[2], frames[0], frames[2]]
        assert read.frames.crcs.tolist() == [zlib.crc32(data) for data in frames]


def test_record_times_and_frames_are_those_that_were_written(make_store: MakeStore) -> None:
    with video(make_store("a", "b/c"), "b/c") as read:
        assert read.record == make_record("b/c")
        assert read.pts.tolist() == [0.0, 0.04, 0.08, 0.12]
        expected = jpeg.decode(jpeg.encode(make_frames(1, N_FRAMES)[2], 95))
        assert np.array_equal(read.frame(2), expected)
        assert read.count_stored("flow") == N_FRAMES - 1


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_a_wrong_checksum_names_the_chunk_and_costs_that_one_only(make_store: MakeStore, codec: str) -> None:
    path = make_store("a", options=make_options(flow_codec=codec))

    def edit(group: h5py.Group) -> None:
        group["flow_crc32"][-1] ^= 1
        group["frames_crc32"][1] ^= 1

    with video(edited(path, edit)) as read:
        last = len(read.field("flow").chunks(0)) * (N_FRAMES - 1) - 1
        with pytest.raises(StoreCorruptError, match=f"chunk {last} of /videos/a/flow.* fails its CRC"):
            read.field("flow").codes(N_FRAMES - 2)
        with pytest.raises(StoreCorruptError, match=r"chunk 1 of /videos/a/frames of .* fails its CRC"):
            read.frame(1)
        assert read.field("flow").codes(0).any()
        assert read.frame(2).any()
    with video(path, check=False) as read:
        assert read.field("flow").codes(N_FRAMES - 2).any()
        assert read.frame(1).any()


OFFSETS: dict[str, Callable[[list[int]], list[int]]] = {
    "do not begin at 0": lambda at: [1, *at[1:]],
    "end before the bytes": lambda at: [*at[:-1], at[-1] - 1],
    "end after the bytes": lambda at: [*at[:-1], at[-1] + 1],
    "fall": lambda at: [0, at[2], at[1], *at[3:]],
}


@pytest.mark.parametrize("how", OFFSETS)
def test_offsets_that_do_not_divide_the_bytes_are_corrupt(make_store: MakeStore, how: str) -> None:
    edit = replaced("frames_offset", lambda old: np.array(OFFSETS[how](old[()].tolist()), "<i8"))
    with (
        video(edited(make_store("a"), edit)) as read,
        pytest.raises(StoreCorruptError, match=r"offsets of /videos/a/frames of .* do not divide its \d+ b"),
    ):
        read.frame(0)


WRONG: dict[str, tuple[Edit, str]] = {
    "too few checksums": (replaced("flow_crc32", lambda old: old[1:]), r"shape \(2,\), expected \(3,\)"),
    "checksums of another type": (
        replaced("flow_crc32", lambda old: old[()].astype("<i4")),
        "type int32, expected <u4",
    ),
    "too few scales": (replaced("flow_scale", lambda old: old[1:]), r"shape \(2,\), expected \(3,\)"),
    "two fields in a chunk": (
        replaced("flow", lambda old: old[()], chunks=(2, 2, 12, 20), compression="gzip"),
        r"has chunks \(2, 2, 12, 20\), expected one a field",
    ),
    "no chunks": (replaced("flow", lambda old: old[()]), "has chunks None, expected one a field"),
    "another size": (
        replaced("flow", lambda old: old[:, :, 1:], chunks=(1, 2, 11, 20), compression="gzip"),
        r"shape \(3, 2, 11, 20\), expected \(3, 2, 12, 20\)",
    ),
    "no flow": (lambda group: group.__delitem__("flow"), "/videos/a/flow is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_datasets_that_do_not_fit_the_record_state_got_and_expected(make_store: MakeStore, name: str) -> None:
    edit, message = WRONG[name]
    with video(edited(make_store("a"), edit)) as read:
        with pytest.raises(StoreError, match=message):
            read.field("flow")
        assert read.frame(0).any()


def test_a_chunk_that_was_never_written_is_missing(make_store: MakeStore) -> None:
    def edit(group: h5py.Group) -> None:
        old, kept = group["flow"], group["flow"].id.read_direct_chunk((0, 0, 0, 0))[1]
        shape, chunks = old.shape, old.chunks
        del group["flow"]
        new = group.create_dataset("flow", shape, "i1", chunks=chunks, compression="gzip", fillvalue=-128)
        new.id.write_direct_chunk((0, 0, 0, 0), kept)

    with video(edited(make_store("a"), edit)) as read:
        assert read.count_stored("flow") == 1
        assert read.field("flow").codes(0).any()
        with pytest.raises(StoreCorruptError, match=r"chunk 1 of /videos/a/flow of .* is missing"):
            read.field("flow").codes(1)


def test_a_chunk_without_its_filters_is_refused(make_store: MakeStore) -> None:
    def edit(group: h5py.Group) -> None:
        data = group["flow"][1].tobytes()
        group["flow"].id.write_direct_chunk((1, 0, 0, 0), data, filter_mask=1)
        group["flow_crc32"][1] = zlib.crc32(data)

    with (
        video(edited(make_store("a"), edit)) as read,
        pytest.raises(StoreCorruptError, match=r"chunk 1 of .* is stored without its filters"),
    ):
        read.field("flow").codes(1)


def test_counts_are_held_to_the_stored_times_first(make_store: MakeStore, options: StoreOptions) -> None:
    with open_file(make_store("a")) as file:
        longer = make_record("a", n_frames=N_FRAMES + 1)
        with pytest.raises(StoreFormatError, match=r"pts of .* has shape \(4,\), expected \(5,\)"):
            Hdf5Video(file, longer, options)
        with pytest.raises(StoreCorruptError, match="/videos/z is missing"):
            Hdf5Video(file, make_record("z"), options)
