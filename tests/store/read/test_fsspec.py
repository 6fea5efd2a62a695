"""Stores through the file objects of fsspec: as object stores and web servers are read."""

from __future__ import annotations

import gc
import http.server
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import _objects

from flowkit.errors import StoreFormatError
from flowkit.store.read.store import Store, open_store
from tests.store.conftest import MakeStore, make_options

fsspec: Any = pytest.importorskip("fsspec")


class RangeServer(http.server.ThreadingHTTPServer):
    """Serves one file, whole or by range, and counts the bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), Ranges)
        self.data = path.read_bytes()
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/clips.h5"


class Ranges(http.server.BaseHTTPRequestHandler):
    """RFC 9110, 14.2: `Range: bytes=first-last`, both counted in."""

    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self) -> None:
        self._head(200, len(self.server.data))

    def do_GET(self) -> None:
        data = self.server.data
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            self._head(200, len(data))
        else:
            first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
            whole, data = len(data), data[first : last + 1]
            self._head(206, len(data), f"bytes {first}-{last}/{whole}")
        self.server.sent += len(data)
        self.wfile.write(data)

    def _head(self, status: int, nbytes: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(nbytes))
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        pass


@pytest.fixture
def served(make_store: MakeStore) -> Iterator[tuple[Path, RangeServer]]:
    pytest.importorskip("aiohttp")
    path = make_store("a", "b")
    server = RangeServer(path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield path, server
    server.shutdown()
    thread.join()
    server.server_close()


def check_same(store: Store, path: Path) -> None:
    with open_store(path) as expected:
        assert list(store) == list(expected)
        for video_id, clip in expected.items():
            assert np.array_equal(store[video_id].flow(), clip.flow())
            assert np.array_equal(store[video_id].frames([2, 0]), clip.frames([2, 0]))
            assert np.array_equal(store[video_id].pts, clip.pts)


@pytest.mark.parametrize("flow_codec", ["i8", "jpeg"])
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


def test_a_web_server(served: tuple[Path, RangeServer]) -> None:
    path, server = served
    with (
        fsspec.open(server.url, "rb", cache_type="blockcache", block_size=1024) as file,
        open_store(file) as store,
    ):
        check_same(store, path)
        with pickle.loads(pickle.dumps(store)) as copy:
            check_same(copy, path)


def test_a_web_server_sends_what_is_read_and_little_more(served: tuple[Path, RangeServer]) -> None:
    path, server = served
    with (
        fsspec.open(server.url, "rb", cache_type="blockcache", block_size=1024) as file,
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


def test_a_master_needs_its_path(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with fsspec.open(f"file://{path}", "rb") as file, pytest.raises(StoreFormatError, match="by its path"):
        open_store(file)
