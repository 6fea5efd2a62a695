from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import flowkit
from flowkit.executor import InlineExecutor
from flowkit.rawframes.layouts import LAYOUTS
from flowkit_cli.export import LAYOUTS as OFFERED
from flowkit_cli.export import command as export_command
from flowkit_cli.import_ import command as import_command
from tests.rawframes.conftest import contents, make_options, write_clip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    from flowkit.store.write.pack import finalize

    path, options = tmp_path / "out.h5", make_options(flow_codec="jpeg")
    for seed, video_id in enumerate(["run/a", "walk/b"]):
        write_clip(path, video_id, options, n_frames=4, seed=seed)
    finalize(path, options=options)
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tasks in this process, which saves the start of workers."""
    monkeypatch.setattr("flowkit.jobs.LocalExecutor", lambda _: InlineExecutor())


def run(command: click.Command, *words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def test_export_prints_each_clip_on_stdout_and_the_summary_on_stderr(store: Path, tmp_path: Path) -> None:
    result = run(export_command, store, tmp_path / "frames", "--layout", "tsn", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted((line["name"], line["status"]) for line in lines) == [
        ("run/a", "exported"),
        ("walk/b", "exported"),
    ]
    assert "2 exported" in result.stderr
    assert (tmp_path / "frames/walk/b/flow_y_00003.jpg").exists()


@pytest.mark.usefixtures("in_process")
def test_a_repeated_export_says_that_all_is_there(store: Path, tmp_path: Path) -> None:
    run(export_command, store, tmp_path / "frames", "--layout", "mmaction2")
    result = run(export_command, store, tmp_path / "frames", "--layout", "mmaction2", "--json")
    assert {json.loads(line)["status"] for line in result.stdout.splitlines()} == {"already_exported"}
    assert "0 exported, 2 were there before" in result.stderr


@pytest.mark.usefixtures("in_process")
def test_templates_and_first_index_name_the_files(store: Path, tmp_path: Path) -> None:
    run(
        export_command,
        store,
        tmp_path / "frames",
        *("--layout", "mmaction2", "--first-index", "0"),
        *("--template", "x=flow_x_%05d.jpg", "--template", "y=flow_y_%05d.jpg"),
    )
    assert (tmp_path / "frames/run/a/flow_x_00000.jpg").exists()


@pytest.mark.usefixtures("in_process")
def test_a_clip_that_cannot_be_exported_gives_status_1(store: Path, tmp_path: Path) -> None:
    (tmp_path / "frames/run/a").mkdir(parents=True)
    result = run(export_command, store, tmp_path / "frames", "--layout", "tsn", status=1)
    assert "FAILED run/a: refused" in result.stderr
    assert "1 failed" in result.stderr


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    from flowkit.store.write.pack import finalize

    path, options = tmp_path / "spaced.h5", make_options(flow_codec="jpeg")
    for seed, video_id in enumerate(["Hand Stand/a", "walk/b"]):
        write_clip(path, video_id, options, n_frames=4, seed=seed)
    finalize(path, options=options)
    return path


@pytest.mark.usefixtures("in_process")
def test_ids_with_spaces_are_in_no_list_and_give_status_1(spaced: Path, tmp_path: Path) -> None:
    result = run(export_command, spaced, tmp_path / "frames", "--layout", "mmaction2", status=1)
    assert "1 ids have spaces" in result.stderr
    assert "--safe-names" in result.stderr
    lists = tmp_path / "frames/annotations/all"
    assert (lists / "rgb_all.txt").read_text() == "walk/b 4 1\n"
    assert (tmp_path / "frames/Hand Stand/a/img_00001.jpg").exists()  # the frames are there


@pytest.mark.usefixtures("in_process")
def test_safe_names_lead_from_each_list_to_the_folder(spaced: Path, tmp_path: Path) -> None:
    run(export_command, spaced, tmp_path / "frames", "--layout", "mmaction2", "--safe-names")
    lists = tmp_path / "frames/annotations/all"
    assert (lists / "rgb_all.txt").read_text() == "Hand%20Stand/a 4 0\nwalk/b 4 1\n"
    assert (lists / "flow_all.txt").read_text() == "Hand%20Stand/a 3 0\nwalk/b 3 1\n"
    for line in (lists / "flow_all.txt").read_text().splitlines():
        assert len(list((tmp_path / "frames" / line.split()[0]).glob("x_*.jpg"))) == 3
    assert (lists / "classes.txt").read_text() == "Hand Stand\nwalk\n"
    again = run(export_command, spaced, tmp_path / "frames", "--layout", "mmaction2", "--safe-names")
    assert "2 were there before" in again.stderr
    refused = CliRunner().invoke(
        export_command, [str(spaced), str(tmp_path / "frames"), "--layout", "mmaction2"]
    )
    assert "safe_names: there True, asked None" in str(refused.exception)


@pytest.mark.usefixtures("in_process")
def test_a_destination_with_spaces_keeps_tsns_lists_empty_and_gives_status_1(
    store: Path, tmp_path: Path
) -> None:
    result = run(export_command, store, tmp_path / "my frames", "--layout", "tsn", status=1)
    assert "--list-prefix" in result.stderr
    run(export_command, store, tmp_path / "my frames", "--layout", "tsn", "--list-prefix", "frames")
    lists = tmp_path / "my frames/annotations/all"
    assert (lists / "rgb_all.txt").read_text() == "frames/run/a 4 0\nframes/walk/b 4 1\n"


@pytest.mark.usefixtures("in_process")
def test_export_and_import_round_trip_from_the_command_line(store: Path, tmp_path: Path) -> None:
    run(export_command, store, tmp_path / "one", "--layout", "denseflow")
    result = run(import_command, tmp_path / "one", tmp_path / "in.h5", "--layout", "denseflow", "--json")
    assert {json.loads(line)["status"] for line in result.stdout.splitlines()} == {"stored"}
    run(export_command, tmp_path / "in.h5", tmp_path / "two", "--layout", "denseflow")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.usefixtures("in_process")
def test_import_takes_labels_from_a_list_and_names_from_a_class_file(store: Path, tmp_path: Path) -> None:
    run(export_command, store, tmp_path / "frames", "--layout", "tsn")
    (tmp_path / "list.txt").write_text("run/a 4 1\nwalk/b 4 0\n")
    (tmp_path / "classes.txt").write_text("sit\nstand\n")
    words = ["--list", tmp_path / "list.txt", "--classes", tmp_path / "classes.txt"]
    run(import_command, tmp_path / "frames", tmp_path / "in.h5", "--layout", "tsn", *words)
    with flowkit.open(tmp_path / "in.h5") as opened:
        assert opened.labels == ("sit", "stand")
        assert opened["run/a"].label == "stand"


@pytest.mark.usefixtures("in_process")
def test_a_broken_folder_is_named_and_gives_status_1(store: Path, tmp_path: Path) -> None:
    run(export_command, store, tmp_path / "frames", "--layout", "tsn")
    (tmp_path / "frames/walk/b/img_00002.jpg").unlink()
    (tmp_path / "frames/sit/empty").mkdir(parents=True)
    result = run(import_command, tmp_path / "frames", tmp_path / "in.h5", "--layout", "tsn", status=1)
    assert "missing_files: lacks img_00002.jpg" in result.stderr
    assert "empty_folder" in result.stderr
    assert "1 stored, 2 failed" in result.stderr


def test_the_layouts_offered_are_the_layouts_there_are() -> None:
    assert tuple(LAYOUTS) == OFFERED
