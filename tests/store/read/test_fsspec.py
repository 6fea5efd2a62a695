"""Stores through the file objects of fsspec: as object stores and web servers are read."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import _objects

from flowkit.errors import StoreFormatError
from flowkit.store.read.store import Store, open_store
from tests.make.servers import FileServer, serving
from tests.store.conftest import MakeStore, make_options

fsspec: Any = pytest.importorskip("fsspec")


@pytest.fixture
def served(make_store: MakeStore) -> Iterator[tuple[Path, FileServer]]:
    path = make_store("a", "b")
    with serving({path.name: path.read_bytes()}) as server:
        yield path, server


def check_same(store: Store, path: Path) -> None:
    with open_store(path) as expected:
        assert list(store) == list(expected)
        for video_id, clip in expected.items():
            assert np.array_equal(store[video_id].flow(), clip.flow())
            assert np.array_equal(store[video_id].frames([2, 0]), clip.frames([2, 0]))
            assert np.array_equal(store[video_id].pts, clip.pts)


@pytest.mark.parametrize("flow_codec", ["q8", "i8", "jpeg"])
def test_a_local_file_and_one_in_memory(make_store: MakeStore, flow_codec: str) -> None:

    path = make_store("a", "b", options=make_options(flow_codec=flow_codec))
    fsspec.filesystem("memory").pipe("/there/clips.h5", path.read_bytes())
    for url in (f"file://{path}", "memory://there/clips.h5"):
        with fsspec.open(url, "rb") as file, open_store(file) as store:
            assert store.access.method == "h5py"
            check_same(store, path)
            with pickle.loads(pickle.dumps(store)) as copy:
                check_same(copy, path)
    fsspec.filesystem("memory").rm("/there", recursive=True)


def test_a_web_server(served: tuple[Path, FileServer]) -> None:
    path, server = served
    with (
        fsspec.open(f"{server.url}/{path.name}", "rb", cache_type="blockcache", block_size=1024) as file,
        open_store(file) as store,
    ):
        check_same(store, path)
        with pickle.loads(pickle.dumps(store)) as copy:
            check_same(copy, path)


def test_a_web_server_sends_what_is_read_and_little_more(served: tuple[Path, FileServer]) -> None:
    path, server = served
    with (
        fsspec.open(f"{server.url}/{path.name}", "rb", cache_type="blockcache", block_size=1024) as file,
        open_store(file) as store,
    ):
        opened = server.sent
        store["b"].frames([1])
        assert 0 < server.sent - opened < path.stat().st_size / 2
        assert server.sent < path.stat().st_size


def test_no_circle_holds_what_hdf5_has_open(make_store: MakeStore) -> None:
    # Its collection would wait for HDF5's lock, on whichever thread it falls; on the one that fetches
    # for a file object, that is for ever: https://github.com/h5py/h5py/issues/2019.
    path = make_store("a", "b")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with fsspec.open(f"file://{path}", "rb") as file, open_store(file) as store:
            check_same(store, path)
        del file, store
        gc.collect()
        assert [kept for kept in gc.garbage if isinstance(kept, h5py.HLObject | _objects.ObjectID)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_a_master_needs_its_path_or_address(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with (
        fsspec.open(f"file://{path}", "rb") as file,
        pytest.raises(StoreFormatError, match="path or address"),
    ):
        open_store(file)
