"""Clips of a list: whole, counted, or a range of a folder's frames."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flowkit
from flowkit.errors import InputError
from flowkit.executor import InlineExecutor
from flowkit.rawframes.layouts import readings
from flowkit.rawframes.listed import is_clip
from flowkit_cli.import_ import command
from tests.rawframes.conftest import opencv_folder
from tests.rawframes.test_frame_files import whole_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("run/a", "walk/b"):
        opencv_folder(tmp_path / "in" / name, 9)
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowkit.jobs.LocalExecutor", lambda _: InlineExecutor())


def run(folder: Path, text: str, *options: str, status: int = 0) -> Result:
    listed = folder.parent / "list.txt"
    listed.write_text(text)
    words = [str(folder), str(folder.parent / "out.h5"), "--layout", "tsn", "--list", str(listed), *options]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == status, (result.output, result.exception)
    return result


def test_an_offset_and_a_count_are_a_range_of_the_frames(folder: Path) -> None:
    run(folder, "run/a 0 4 0\nrun/a 4 5 1\nwalk/b 2 3 0\n")
    with flowkit.open(folder.parent / "out.h5") as store:
        assert list(store) == ["run/a_f000000_000004", "run/a_f000004_000009", "walk/b_f000002_000005"]
        video = store.stored_video("run/a_f000004_000009")
        for k in range(5):
            assert video.frames[k] == (folder / f"run/a/img_{5 + k:05d}.jpg").read_bytes()
        for k in range(4):
            assert video.field("flow").chunks(k) == tuple(
                (folder / f"run/a/flow_{axis}_{5 + k:05d}.jpg").read_bytes() for axis in "xy"
            )
        clip = store["run/a_f000004_000009"]
        assert (clip.n_frames, clip.n_flow, clip.label) == (5, 4, "1")
        assert clip.pts.tolist() == [k / 25 for k in range(4, 9)]
        assert (clip.record.start_seconds, clip.record.end_seconds) == (4 / 25, 9 / 25)
    assert "3 were stored before" in run(folder, "run/a 0 4 0\nrun/a 4 5 1\nwalk/b 2 3 0\n").stderr


@pytest.mark.parametrize("lines", ["run/a 500 0\nwalk/b 9 1\n", "run/a 5 500 0\nwalk/b 0 9 1\n"])
def test_a_false_count_costs_its_clip_alone_and_is_named(folder: Path, lines: str) -> None:
    result = run(folder, lines, status=1)
    assert "1 stored, 1 failed" in result.stderr
    with flowkit.open(folder.parent / "out.h5") as store:
        assert len(list(store)) == 1
        (failure,) = store.failures
    assert failure.reason == "false_count"
    assert "500 frames" in failure.detail
    assert "the clip has 9" in failure.detail


@pytest.mark.parametrize("count", [9, 8])
def test_the_count_of_frames_or_of_flow_is_true(folder: Path, count: int) -> None:
    run(folder, f"run/a {count} 0\n")


def test_a_bare_number_is_asked_about(folder: Path) -> None:
    result = run(folder, "run/a 9\nwalk/b 9\n", status=1)
    assert isinstance(result.exception, InputError)
    assert "--list-columns path,frames or --list-columns path,label" in str(result.exception)
    run(folder, "run/a 9\nwalk/b 9\n", "--list-columns", "path,frames")
    with flowkit.open(folder.parent / "out.h5") as store:
        assert store.labels == ("run", "walk")


def test_a_bare_number_is_a_class_where_it_is_said_so(folder: Path, tmp_path: Path) -> None:
    run(folder, "run/a 9\nwalk/b 7\n", "--list-columns", "path,label")
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store.labels == ("7", "9")


def test_a_bare_number_is_a_class_beside_names_of_classes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sit\nrun\n")
    run(folder, "run/a 1\n", "--classes", str(tmp_path / "classes.txt"))
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store["run/a"].label == "run"


def test_unknown_columns_are_refused(folder: Path) -> None:
    result = run(folder, "run/a 1\n", "--list-columns", "path,when", status=1)
    assert isinstance(result.exception, InputError)
    assert "path and some of offset, frames, label, each once; got path,when" in str(result.exception)


def test_zips_and_clips_of_trees_are_known_to_lists(folder: Path) -> None:
    (layout, *_) = readings("tsn")
    whole_zip(folder / "walk" / "z", 3)
    assert [is_clip(folder, layout, name) for name in ("run/a", "walk/z", "gone", "x\0")] == [
        *(True, True),
        *(False, False),
    ]
    (folder / "rgb" / "run" / "c").mkdir(parents=True)
    (trees, *_) = readings("rgb-flow")
    assert [is_clip(folder, trees, name) for name in ("run/c", "run/a")] == [True, False]
