from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flowkit import atomic
from flowkit.workers.board import Blackboard, Worker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_every_process_that_opens_the_board_sees_what_others_wrote(folder: Path) -> None:
    board = Blackboard.create(2)
    other = Blackboard(board.path)
    board.active = 2
    board.report(1, 7, 0.25)
    board.sign_in(0, 123)
    assert (other.active, other.progress(1), other.progress(0)) == (2, (7, 0.25), (0, 0.0))
    assert (other.pid(0), other.pid(1)) == (123, 0)
    board.close()
    assert list(folder.iterdir()) == []


def test_a_board_of_a_killed_run_is_swept_by_the_next(folder: Path) -> None:
    killed = Blackboard.create(1).path
    dead = killed.with_name(killed.name.replace(f".{killed.name.split('.')[-2]}.", f".{2**22 - 7}."))
    dead.touch()
    board = Blackboard.create(1)
    assert sorted(folder.iterdir()) == sorted([killed, board.path])


@pytest.mark.parametrize(("active", "threads"), [(1, [5, 5]), (2, [3, 2]), (5, [1, 1])])
def test_the_cores_are_divided_among_the_active(folder: Path, active: int, threads: list[int]) -> None:
    board = Blackboard.create(2)
    board.active = active
    assert [Worker(slot=slot, jobs=5, board=board).threads() for slot in range(2)] == threads


def test_what_a_killed_run_left_is_removed_where_no_board_is_made(folder: Path) -> None:
    killed, mine = Blackboard.create(1), Blackboard.create(1)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    killed.path.rename(folder / f"flowkit-run-x.{atomic.host_name()}.{process.pid}.tmp")
    Blackboard.remove_dead()
    assert list(folder.iterdir()) == [mine.path]
    killed.close()
    mine.close()
