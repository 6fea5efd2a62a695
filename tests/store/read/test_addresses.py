"""Stores by their addresses: a web server, fsspec's memory, an S3 server."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowkit.errors import (
    InputError,
    StoreCorruptError,
    StoreFormatError,
    StoreNotFoundError,
    StoreUnreadableError,
)
from flowkit.remote import RemotePath
from flowkit.store.read.store import Store, open_store
from tests.make.servers import bytes_below, s3_bucket, serving
from tests.store.conftest import MakeStore

fsspec: Any = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/flowkit"):
        system.rm("/flowkit", recursive=True)


def check_same(store: Store, path: Path) -> None:
    with open_store(path) as expected:
        assert list(store) == list(expected)
        for video_id, clip in expected.items():
            assert np.array_equal(store[video_id].flow(), clip.flow())
            assert np.array_equal(store[video_id].frames([2, 0]), clip.frames([2, 0]))


@pytest.mark.parametrize("shard_bytes", [1 << 30, 1])
def test_a_store_and_a_master_with_its_shards_on_a_web_server(
    make_store: MakeStore, shard_bytes: int
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    with serving(bytes_below(path.parent)) as server, open_store(f"{server.url}/out.h5") as store:
        assert store.access.method == "h5py"
        assert str(store.path) == f"{server.url}/out.h5"
        assert len(store.info().shards) == (2 if shard_bytes == 1 else 0)
        check_same(store, path)
        with pickle.loads(pickle.dumps(store)) as copy:
            check_same(copy, path)


@pytest.mark.parametrize("shard_bytes", [1 << 30, 1])
def test_a_store_and_a_master_with_its_shards_in_a_bucket(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    with s3_bucket(monkeypatch, "clips") as bucket:
        for name, data in bytes_below(path.parent).items():
            bucket.pipe(f"clips/of/{name}", data)
        with open_store("s3://clips/of/out.h5") as store:
            check_same(store, path)
            assert store.missing_shards == ()
        with pytest.raises(StoreNotFoundError, match="there is no store at s3://clips/of/none"):
            open_store("s3://clips/of/none.h5")


def test_a_query_stays_behind_the_names_of_shards(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with serving(bytes_below(path.parent)) as server, open_store(f"{server.url}/out.h5?v=3") as store:
        check_same(store, path)


def test_of_a_large_store_only_blocks_are_fetched(make_store: MakeStore) -> None:
    ids = [f"v{k:03}" for k in range(80)]
    path = make_store(*ids)
    with serving({"out.h5": path.read_bytes()}) as server, open_store(f"{server.url}/out.h5") as store:
        opened = server.sent
        store["v007"].frames([1])
        assert 0 < server.sent - opened <= 4 << 16
        assert server.sent < path.stat().st_size


def test_a_missing_shard_costs_its_own_videos(make_store: MakeStore, memory: Any) -> None:
    path = make_store("a", "b", shard_bytes=1)
    for name, data in bytes_below(path.parent).items():
        memory.pipe(f"/flowkit/{name}", data)
    memory.rm("/flowkit/out.h5.shards/00000.h5")
    with pytest.warns(
        RuntimeWarning, match=r"memory://flowkit/out.h5 lacks the shards 00000.h5 with 1 videos"
    ):
        store = open_store("memory://flowkit/out.h5")
    with store:
        assert len(store) == 1


def test_a_child_process_opens_an_address_anew(make_store: MakeStore) -> None:
    path = make_store("a")
    with serving({"out.h5": path.read_bytes()}) as server, open_store(f"{server.url}/out.h5") as store:
        expected = store["a"].flow()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert np.array_equal(pool.apply(_flow, (store,)), expected)


def _flow(store: Store) -> Any:
    return store["a"].flow()


def test_a_file_url_is_a_path(make_store: MakeStore) -> None:
    path = make_store("a")
    with open_store(f"file://{path}") as store:
        assert store.path == path
        assert store.access.method == "pread"


def test_a_server_that_refuses_is_not_taken_for_damage(make_store: MakeStore) -> None:
    path = make_store("a")
    with serving({"out.h5": path.read_bytes()}) as server:
        with pytest.raises(StoreNotFoundError):
            open_store(f"{server.url}/other.h5")
        server.status = 403
        with pytest.raises(StoreUnreadableError, match=r"status 403.*look at the address"):
            open_store(f"{server.url}/out.h5")
        address = f"{server.url}/out.h5"
    with pytest.raises(StoreUnreadableError, match="look at the address"):
        open_store(address)


def test_a_server_that_fails_while_it_is_read_is_not_taken_for_damage(make_store: MakeStore) -> None:
    path = make_store(*[f"v{k:03}" for k in range(40)])
    with serving({"out.h5": path.read_bytes()}) as server, open_store(f"{server.url}/out.h5") as store:
        server.status = 503
        with pytest.raises(StoreUnreadableError, match="status 503"):
            store["v030"].flow()
        server.status = None
        assert len(store["v030"].flow()) == 3


def test_a_server_without_ranges_is_named_as_such(make_store: MakeStore) -> None:
    with serving({"out.h5": make_store("a").read_bytes()}) as server:
        server.ranges = False
        with pytest.raises((StoreUnreadableError, StoreCorruptError), match="serves no parts of files"):
            open_store(f"{server.url}/out.h5")


@pytest.mark.parametrize(("scheme", "package"), [("https", "aiohttp"), ("s3", "s3fs"), ("memory", "fsspec")])
def test_a_missing_package_is_named_with_the_line_that_installs_it(scheme: str, package: str) -> None:
    code = (
        f"import sys, flowkit; from flowkit.errors import InputError; sys.modules[{package!r}] = None\n"
        "try:\n"
        f"    flowkit.open('{scheme}://host/out.h5')\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install fsspec" in done.stdout, done.stderr
    assert package in done.stdout


def test_an_unknown_protocol_is_an_error_of_input() -> None:
    with pytest.raises(InputError, match="nosuch://"):
        open_store("nosuch://host/out.h5")


def test_damage_is_named_with_the_address(make_store: MakeStore) -> None:
    data = make_store("a").read_bytes()
    with serving({"out.h5": data[: len(data) // 2], "text.h5": b"no store at all"}) as server:
        with pytest.raises(StoreCorruptError, match=r"out.h5 is damaged.*put a sound copy there"):
            open_store(f"{server.url}/out.h5")
        with pytest.raises(StoreFormatError, match=f"{server.url}/text.h5 is no HDF5 file"):
            open_store(f"{server.url}/text.h5")


def test_names_beside_an_address() -> None:
    assert RemotePath("s3://b/x/out.h5").with_name("y.h5").url == "s3://b/x/y.h5"
    assert (RemotePath("https://h/out.h5?v=1") / "0.h5").url == "https://h/out.h5/0.h5?v=1"
    assert RemotePath("simplecache::s3://b/out.h5").with_name("y").url == "simplecache::s3://b/y"
    assert RemotePath("zip://a/out.h5::s3://b/z.zip").with_name("y").url == "zip://a/y::s3://b/z.zip"
    assert RemotePath("s3://b/x/out.h5").name == "out.h5"


def test_messages_hide_passwords_and_signatures() -> None:
    shown = str(RemotePath("https://user:word@h/out.h5?a=1&X-Amz-Signature=abc&X-Amz-Credential=def"))
    assert shown == "https://user:***@h/out.h5?a=1&X-Amz-Signature=***&X-Amz-Credential=***"
