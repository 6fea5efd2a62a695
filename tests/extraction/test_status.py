"""The status of a store: complete, held by a process, or left by a dead one."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path

import pytest

from flowkit import atomic
from flowkit.errors import StoreNotFoundError
from flowkit.extraction.status import store_status
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import Failure
from flowkit.store.write.pack import finalize
from tests.rawframes.conftest import make_options, write_clip

STATE = {
    "command": "extract",
    "host": "node",
    "pid": 7,
    "flowkit_version": "0.1.0",
    "began": "2026-01-01T00:00:00.000+00:00",
    "updated": "2026-01-01T00:01:40.000+00:00",
    "stage": "working",
    "total": 8,
    "done": 2,
    "failed": 1,
    "frames": 500,
    "fraction": 0.25,
}


def with_state(store: Path, **changes: object) -> None:
    PartsFolder(store).path.mkdir(exist_ok=True)
    PartsFolder(store).write_state(json.dumps({**STATE, **changes}))


def make_store(store: Path, *names: str, shard_bytes: int = 1 << 30) -> None:
    for name in names:
        write_clip(store, name, make_options(), n_frames=2, seed=0)
    failure = Failure(source="x.avi", reason="decode_error", detail="d", video_id="x")
    finalize(store, options=make_options(), failures=[failure], shard_bytes=shard_bytes)


@pytest.mark.parametrize("shard_bytes", [1 << 30, 1])
def test_a_finished_store_is_complete(store: Path, shard_bytes: int) -> None:
    make_store(store, "a", "b", "c", shard_bytes=shard_bytes)
    status = store_status(store)
    assert (status.state, status.holder, status.stored, status.parts, status.failures) == (
        *("complete", ""),
        *(3, 0, 1),
    )
    assert (status.run, status.left, status.frames_per_second) == (None, None, None)


def test_a_held_store_is_running_and_its_pace_is_that_of_the_state(store: Path) -> None:
    make_store(store, "a")
    write_clip(store, "b", make_options(), n_frames=2, seed=0)
    with_state(store)
    with PartsFolder(store).lock():
        status = store_status(store)
    assert (status.state, status.stored, status.parts, status.left) == ("running", 1, 1, 6)
    assert status.holder.startswith("process ")
    assert status.holder.endswith(f" on {atomic.host_name()}")
    assert (status.seconds, status.frames_per_second, status.seconds_left) == (100.0, 5.0, 300.0)


def test_what_a_dead_run_left_is_stopped(store: Path) -> None:
    make_store(store, "a")
    with_state(store)
    status = store_status(store)
    assert (status.state, status.holder, status.seconds_left) == ("stopped", "", None)
    PartsFolder(store).remove_state()
    write_clip(store, "b", make_options(), n_frames=2, seed=0)
    assert store_status(store).state == "stopped"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"command": 3}', json.dumps({**STATE, "began": "yesterday"}), "[" * 100_000]
)
def test_a_state_that_cannot_be_read_is_none(store: Path, text: str) -> None:
    make_store(store, "a")
    PartsFolder(store).path.mkdir()
    PartsFolder(store).write_state(text)
    assert store_status(store).run is None


def test_a_path_without_anything_is_refused(store: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no run has begun one; name the STORE"):
        store_status(store)


def test_asking_does_not_keep_a_run_from_beginning(store: Path) -> None:
    """The holder is found by a lock of one moment, which a run that begins then waits out."""
    make_store(store, "a")
    folder = PartsFolder(store).path
    folder.mkdir()
    lock = folder / atomic.LOCK_NAME
    lock.touch()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with PartsFolder(store).lock():
            assert store_status(store).state == "running"
