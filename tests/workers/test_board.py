from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

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
