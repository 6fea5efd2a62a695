"""The scratch folder: its bound, and that nothing of it stays."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flowkit import atomic
from flowkit.extraction.scratch import scratch_folder


def test_a_file_has_its_size_and_suffix_and_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, 1000) as scratch:
        with scratch.room(600, ".mp4") as path:
            assert path.stat().st_size == 600
            assert path.suffix == ".mp4"
        assert not path.exists()
        with scratch.room(600, "./../x") as path:
            assert path.name == "video"
    assert list(tmp_path.iterdir()) == []


def test_who_finds_no_room_waits_for_it(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with scratch.room(600, ".mp4"):
            order.append("second")

    with scratch_folder(tmp_path, 1000) as scratch:
        waiting = threading.Thread(target=second)
        with scratch.room(600, ".mp4"), scratch.room(400, ".mp4"):
            waiting.start()
            waiting.join(0.2)
            order.append("first")
        waiting.join(10)
    assert order == ["first", "second"]


def test_an_error_and_ctrl_c_leave_nothing(tmp_path: Path) -> None:
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), scratch_folder(tmp_path, 1000) as scratch, scratch.room(10, ".mp4"):
            raise error
        assert list(tmp_path.iterdir()) == []


def test_what_dead_runs_and_workers_left_is_removed(tmp_path: Path) -> None:
    dead = f"{atomic.host_name()}.{2**22 + 1}.tmp"
    (tmp_path / f"flowkit-scratch.{dead}").mkdir()
    (tmp_path / f"flowkit-scratch.{dead}" / "video").write_bytes(b"x")
    (tmp_path / f"flowkit-scratch.elsewhere.{os.getpid()}.tmp").mkdir()
    with scratch_folder(tmp_path, 1000) as scratch:
        left = scratch.folder / f"video.{dead}"
        left.mkdir()
        (left / "video.mp4").write_bytes(bytes(900))
        with scratch.room(600, ".mp4"):
            assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f"flowkit-scratch.elsewhere.{os.getpid()}.tmp"]
