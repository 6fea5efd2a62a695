"""Text attributes read by a process that can be ended."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import h5py
import pytest

from flowkit.errors import StoreCorruptError, StoreFormatError, StoreUnreadableError
from flowkit.store import heap_text
from flowkit.store.open_file import open_file
from flowkit.store.read.store import open_store
from flowkit.store.record import RECORD_TYPES
from flowkit.store.tools.verify import verify
from tests.make.stores import make_format_1_0
from tests.store.conftest import MakeStore, make_record

_WITHIN_SECONDS = 60
"""Far beyond the three of CPU time, for machines with other work."""


def loop(path: Path) -> None:
    """Have HDF5 loop over each heap of a file, whose free space gets the size 0: a flipped bit is enough."""
    raw = bytearray(path.read_bytes())
    start = -1
    while (start := raw.find(b"GCOL", start + 1)) >= 0:
        size = int.from_bytes(raw[start + 8 : start + 16], "little")
        at = start + 16
        while at < start + size:
            index = int.from_bytes(raw[at : at + 2], "little")
            if index == 0:
                raw[at + 8 : at + 16] = bytes(8)
                break
            at += 16 + -(-int.from_bytes(raw[at + 8 : at + 16], "little") // 8) * 8
    path.write_bytes(raw)


@pytest.fixture
def old(make_store: MakeStore) -> Path:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        make_format_1_0(file)
    return path


def test_attributes_are_those_of_each_object(make_store: MakeStore) -> None:
    path = make_store("a", "b/c")
    found = heap_text.read_attributes(path, ["videos/a", "videos/b/c"], {**RECORD_TYPES, "none": str})
    expected = [make_record(video_id).to_attrs() for video_id in ("a", "b/c")]
    for attrs, wanted in zip(found, expected, strict=True):
        assert {k: attrs[k] for k in ("source_name", "width", "fps")} == {
            k: wanted[k] for k in ("source_name", "width", "fps")
        }


def test_a_heap_over_which_hdf5_loops_is_damage(old: Path) -> None:
    loop(old)
    began = time.monotonic()
    for use in (open_file, verify):
        with pytest.raises(StoreCorruptError, match="HDF5 comes to no end over its text"):
            use(old)
    assert time.monotonic() - began < 2 * _WITHIN_SECONDS


def test_with_format_1_1_it_is_found_and_no_obstacle(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    loop(path)
    with open_store(path) as store:
        assert store["a"].flow().any()
        assert store["b"].record == make_record("b")
    report = verify(path)
    assert not report.videos
    assert "outside its chunks" in report.store[0]


def test_errors_of_the_reading_process_come_back_as_they_are(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        file["videos/link"] = h5py.SoftLink("/videos/a")
    with pytest.raises(StoreFormatError, match="is a link to"):
        heap_text.read_attributes(path, ["videos/link"], {"label": str})
    with pytest.raises(StoreUnreadableError, match="put it back"):
        heap_text.read_attributes(tmp_path / "none.h5", ["/"], {"format": str})


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("exit 1", StoreUnreadableError, "status 1"),
        ("echo no numpy >&2; exit 1", StoreUnreadableError, "status 1: no numpy"),
        ("echo ready; kill -KILL $$", StoreUnreadableError, "status -9"),
        ("kill -SEGV $$", StoreUnreadableError, "status -11"),
        ("echo ready; kill -SEGV $$", StoreCorruptError, "HDF5 crashes over its text"),
    ],
)
def test_only_a_process_that_had_started_says_something_of_the_file(
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    error: type[Exception],
    message: str,
) -> None:
    path = make_store("a")
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(error, match=message):
        heap_text.read_attributes(path, ["/"], {"format": str})


def test_the_root_is_asked_for_once_while_the_file_stays_as_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_file(old) as file:
        assert file.metadata.format_version == "1.0"
    monkeypatch.setattr(heap_text, "read_attributes", lambda *_: pytest.fail("asked for again"))
    open_file(old).close()


def test_limits_stay_within_those_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, 7))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: found.append(both))
    heap_text._limit(resource.RLIMIT_CPU, 100)
    heap_text._limit(resource.RLIMIT_CPU, 3)
    assert found == [(7, 7), (3, 7)]
