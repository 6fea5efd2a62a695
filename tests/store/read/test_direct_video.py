"""Reading by address: what it gives, when it steps back for HDF5, and what it refuses."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import h5py
import numpy as np
import pytest

from flowkit.errors import (
    ClipNotFoundError,
    ClipRangeError,
    FlowkitError,
    InvalidParameterError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
)
from flowkit.store.addresses import DTYPES, address_names, row_crc
from flowkit.store.codecs import deflate
from flowkit.store.parts_folder import shards_path
from flowkit.store.read import direct_video as direct
from flowkit.store.read.direct_video import DirectFile, DirectVideo
from flowkit.store.read.store import ClipRequest, Store, open_store
from tests.make.stores import sum_table
from tests.store.conftest import MakeStore, make_options

ALLOWED_BYTES = 5_000_000


def everything(store: Store) -> dict[str, list[Any]]:
    return {
        video_id: [*clip.codes(), clip.frames(range(clip.n_frames)), clip.pts]
        for video_id, clip in store.items()
    }


def same(first: dict[str, list[Any]], second: dict[str, list[Any]]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(a, b) for k in first for a, b in zip(first[k], second[k], strict=True)
    )


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "i16", "jpeg"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_both_ways_read_the_same(make_store: MakeStore, flow_codec: str, shard_bytes: int) -> None:
    path = make_store("a", "b/c", options=make_options(flow_codec=flow_codec), shard_bytes=shard_bytes)
    with open_store(path) as store, open_store(path, access="h5py") as slow:
        assert (store.access.method, store.access.reason) == ("pread", "")
        assert slow.access.method == "h5py"
        assert isinstance(store.stored_video("b/c"), DirectVideo)
        assert same(everything(store), everything(slow))


def test_indices_may_come_in_any_order_and_twice(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        (found,) = store.read_many([ClipRequest(video_id="a", flow=[2, 0, 2])], threads=1)
        whole, all_scales = store["a"].codes()
        assert np.array_equal(found.codes, whole[[2, 0, 2]])
        assert np.array_equal(found.scales, all_scales[[2, 0, 2]])
        assert np.array_equal([*store["a"].iter_flow([2, 0, 2])], store["a"].flow()[[2, 0, 2]])
        (none,) = store.read_many([ClipRequest(video_id="a")], threads=1)
        assert none.codes.shape == (0, *whole.shape[1:])
        for outside in (ClipRequest(video_id="a", flow=[0, 3, -1]), ClipRequest(video_id="a", frames=[4])):
            with pytest.raises(ClipRangeError, match=r"\[3, -1\].*< 3|\[4\].*< 4"):
                next(store.read_many([outside], threads=1))


def test_neighbours_come_in_one_read(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def noted(file: DirectFile, offset: int, nbytes: int, read: Any = DirectFile.read) -> bytes:
        reads.append(nbytes)
        data: bytes = read(file, offset, nbytes)
        return data

    with open_store(make_store("a")) as store:
        frames = store.stored_video("a").frames
        alone = [frames[k] for k in range(4)]
        together: list[tuple[list[int], list[list[int]]]] = [
            ([0, 1, 2, 3], [[0, 1, 2, 3]]),
            ([2, 3, 0, 1], [[2, 3], [0, 1]]),
            ([1, 1], [[1], [1]]),
            ([], []),
        ]
        monkeypatch.setattr(DirectFile, "read", noted)
        for order, runs in together:
            reads.clear()
            assert [bytes(data) for data in frames.each(order)] == [alone[k] for k in order]
            assert reads == [sum(len(alone[k]) for k in run) for run in runs]
        monkeypatch.setattr(direct, "_RUN_BYTES", len(alone[0]) + len(alone[1]))
        reads.clear()
        assert [bytes(data) for data in frames.each([0, 1, 2])] == alone[:3]
        assert reads == [len(alone[0]) + len(alone[1]), len(alone[2])]


def test_a_damaged_piece_among_neighbours_is_named(make_store: MakeStore) -> None:
    path = make_store("a")
    with open_store(path) as store:
        place = int(store.stored_video("a")._ranges["flow_addr"][1])  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        file.seek(place + 9)
        byte = file.read(1)[0]
        file.seek(place + 9)
        file.write(bytes([byte ^ 4]))
    with open_store(path) as store:
        assert len(store["a"].flow(0, 1)) == 1
        with pytest.raises(StoreCorruptError, match="chunk 1 of flow of 'a'"):
            store["a"].flow()


def test_many_clips_are_read_in_the_order_asked(make_store: MakeStore) -> None:
    requests = [ClipRequest(video_id="ba"[k % 2], frames=[k % 4], flow=[k % 3]) for k in range(20)]
    with open_store(make_store("a", "b")) as store:
        alone = list(store.read_many(requests, threads=1))
        together = list(store.read_many(requests, threads=4))
        assert [data.video_id for data in together] == [request.video_id for request in requests]
        for one, other in zip(alone, together, strict=True):
            assert one.frames is not None and other.frames is not None  # noqa: PT018
            assert np.array_equal(one.frames, other.frames)
            assert np.array_equal(one.codes, other.codes)
        assert list(store.read_many([])) == []
        (without,) = store.read_many([ClipRequest(video_id="a", flow=[0])])
        assert without.frames is None
        endless = store.read_many(itertools.cycle(requests), threads=2)
        assert [next(endless).video_id for _ in range(50)] == ["ba"[k % 2] for k in range(50)]
        endless.close()  # type: ignore[attr-defined]
        with pytest.raises(ClipNotFoundError):
            list(store.read_many([requests[0], ClipRequest(video_id="z")], threads=2))


def test_a_repacked_file_is_read_through_hdf5(make_store: MakeStore) -> None:
    path = make_store("a")
    with open_store(path) as store:
        expected = everything(store)
    moved = path.with_name("moved.h5")
    with h5py.File(path) as source, h5py.File(moved, "w") as target:
        target.attrs.update(source.attrs)
        for name in reversed(list(source)):
            source.copy(name, target)
    with open_store(moved) as store:
        assert store.access.method == "h5py"
        assert "repacked" in str(store.access)
        assert same(everything(store), expected)


def test_a_repacked_shard_is_named(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with (shards_path(path) / "00001.h5").open("ab") as file:
        file.write(b"x")
    with open_store(path) as store:
        assert "00001.h5: it was repacked" in store.access.reason
        assert isinstance(store.stored_video("a"), DirectVideo)
        assert not isinstance(store.stored_video("b"), DirectVideo)


def test_an_index_without_addresses_is_read_through_hdf5(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        del file["index/flow_scale"]
        file["index"].attrs["file_bytes"] = path.stat().st_size
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        file["index"].attrs.modify("file_bytes", np.int64(size))
    with open_store(path) as store:
        assert "no flow_scale" in store.access.reason
        assert store["a"].flow().any()


def test_without_libdeflate_hdf5_reads(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store("a")
    monkeypatch.setattr(deflate, "_deflate", None)
    with open_store(path) as store:
        assert "deflate" in store.access.reason
        assert store["a"].flow().any()


def test_unknown_ways_are_refused(make_store: MakeStore) -> None:
    with pytest.raises(InvalidParameterError, match="access"):
        open_store(make_store("a"), access="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "jpeg"])
def test_any_file_object_that_seeks_is_read(make_store: MakeStore, flow_codec: str) -> None:
    path = make_store("a", "b", options=make_options(flow_codec=flow_codec))
    with open_store(path) as store, open_store(io.BytesIO(path.read_bytes())) as other:
        assert other.access.method == "h5py"
        assert "fileobj" in other.access.reason
        assert same(everything(store), everything(other))
        assert other.info().bytes == path.stat().st_size
        assert same(everything(store), everything(pickle.loads(pickle.dumps(other))))


def test_a_file_object_that_is_no_store_is_reported() -> None:
    for content in (b"", b"text" * 100, b"\x89HDF\r\n\x1a\n" + bytes(500)):
        with pytest.raises(StoreError):
            open_store(io.BytesIO(content))


def test_a_master_cannot_be_read_from_a_file_object(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with path.open("rb") as file, pytest.raises(StoreFormatError, match="master"):
        open_store(file)


def total(store: Store) -> float:
    return float(store["a"].flow().sum() + store["a"].pts.sum())


def test_a_forked_process_copies_the_file_object(make_store: MakeStore) -> None:
    path = make_store("a")
    with open_store(io.BytesIO(path.read_bytes())) as store, path.open("rb") as file:
        expected = total(store)
        assert in_a_fork(lambda: total(store)) == str(expected)
        with open_store(file) as shared:
            assert "cannot be copied" in in_a_fork(lambda: total(shared))


def in_a_fork(call: Callable[[], object]) -> str:
    """Return what a forked process says of a call: its value or its error."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            text = str(call())
        except FlowkitError as error:
            text = str(error)
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def test_a_fork_while_threads_read_does_not_hang(make_store: MakeStore) -> None:
    stop = threading.Event()
    with open_store(make_store("a", "b", shard_bytes=1)) as store:
        expected = total(store)

        def read_on() -> None:
            while not stop.is_set():
                store["b"].flow()

        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            assert [in_a_fork(lambda: store["a"].flow().sum()) for _ in range(5)] == [
                str(store["a"].flow().sum())
            ] * 5
        finally:
            stop.set()
            reader.join()
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            assert pool.submit(total, store).result() == expected


def test_clips_are_read_from_the_file_that_was_opened(make_store: MakeStore) -> None:
    path = make_store("a")
    with open_store(path) as store:
        expected = store["a"].codes()[0]
        path.rename(path.with_name("old.h5"))
        path.write_bytes(b"something else")
        assert np.array_equal(store["a"].codes()[0], expected)


def resealed(file: h5py.File) -> None:
    """Give each video of a hostile index the checksum that fits it."""
    names = [f"{name}_{kind}" for name, kinds in address_names(make_options()).items() for kind in kinds]
    rows, start = file["index/videos"][()], {"flow": 0, "frame": 0}
    for k, row in enumerate(rows):
        counts = {"flow": int(row["n_flow"]), "frame": int(row["n_frames"])}
        slices = []
        for name in names:
            kind = name.split("_")[0]
            slices.append(file[f"index/{name}"][start[kind] : start[kind] + counts[kind]])
        file["index/rows_crc32"][k] = row_crc(row["id"].decode(), slices)
        start = {kind: start[kind] + counts[kind] for kind in start}


def put(name: str, place: int, value: object) -> Callable[[h5py.File], None]:
    def attack(file: h5py.File) -> None:
        file[f"index/{name}"][place] = value

    return attack


ATTACKS = {
    "an address before the file": put("flow_addr", 1, -10),
    "an address beyond the file": put("flow_addr", 1, 1 << 62),
    "an address near the end": put("frame_addr", 0, 200_000),
    "a size of 4 GB": put("flow_nbytes", 1, (1 << 32) - 1),
    "a frame of 100 kB": put("frame_nbytes", 1, 100_000),
    "nothing": put("flow_nbytes", 0, 0),
    "another chunk": lambda file: put("flow_addr", 0, file["index/flow_addr"][1])(file),
    "a scale of NaN": put("flow_scale", 0, np.nan),
    "an infinite scale": put("flow_scale", 0, np.inf),
    "a scale that is no power of two": put("flow_scale", 2, 0.3),
    "a scale too small": put("flow_scale", 2, 1 / 16),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_addresses_are_refused_and_allocate_nothing_big(make_store: MakeStore, name: str) -> None:
    path = make_store("a", "b", options=make_options(flow_codec="i8"))
    with h5py.File(path, "r+") as file:
        ATTACKS[name](file)
        resealed(file)
    tracemalloc.start()
    try:
        with open_store(path) as store:
            assert store.access.method == "pread"
            with pytest.raises(StoreCorruptError):
                everything(store)
            assert store["b"].flow().any()
        assert tracemalloc.get_traced_memory()[1] < ALLOWED_BYTES
    finally:
        tracemalloc.stop()


def test_a_chunk_of_another_size_is_refused_before_it_inflates(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    bomb = zlib.compress(bytes(3_000_000), 9)
    with path.open("ab") as file:
        at = file.tell()
        file.write(bomb)
    with h5py.File(path, "r+") as file:
        file["index"].attrs.modify("file_bytes", np.int64(at + len(bomb)))
        put("flow_addr", 0, at)(file)
        put("flow_nbytes", 0, len(bomb))(file)
        put("flow_crc32", 0, zlib.crc32(bomb))(file)
        resealed(file)
    with open(path, "ab") as tail:
        tail.truncate(at)
        tail.seek(at)
        tail.write(bomb)
    with open_store(path) as store, pytest.raises(StoreCorruptError):
        store["a"].flow()


@pytest.mark.parametrize("kind", DTYPES)
def test_a_flipped_bit_of_the_index_is_found(make_store: MakeStore, kind: str) -> None:
    path = make_store("a", "b")
    with h5py.File(path) as file:
        at = file[f"index/flow_{kind}"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[at + 3] ^= 1  # of a scale: another power of two
    path.write_bytes(raw)
    with open_store(path) as store:
        with pytest.raises(StoreCorruptError, match="fail their CRC"):
            store["a"].flow()
        assert store["b"].flow().any()


def test_counts_that_do_not_fit_the_arrays_are_refused(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        table = file["index/videos"][()]
        table["n_frames"] += 1
        file["index/videos"][...] = table
        sum_table(file, "index/videos")
    with open_store(path) as store, pytest.raises(FlowkitError):
        store["a"].frames([0])
