"""`flowkit extract`: its inputs, as people write them."""

from __future__ import annotations

import codecs
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import flowkit
import flowkit_cli
from tests.make.clips import mjpeg_avi, moving_texture, write_video
from tests.make.command import flowkit_says


def planned(arguments: list[str | Path], *, text: bytes | None = None) -> Result:
    """Run a dry run; its JSON lines are the plan."""
    words = ["extract", *map(str, arguments), "out.h5", "--dry-run", "--json", "--quiet"]
    return CliRunner().invoke(flowkit_cli.group, words, input=text, catch_exceptions=False)


def ids(result: Result) -> list[str]:
    return [json.loads(line)["video_id"] for line in result.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("#20_clap.avi", "my clip.mp4", "plain.mp4"):
        write_video(tmp_path / name, moving_texture(3), codec="mpeg4")
    return tmp_path


def test_names_that_start_with_a_hash_and_names_with_spaces_come_on_standard_input(folder: Path) -> None:
    result = planned(["-"], text=b"#20_clap.avi\nmy clip.mp4\n# a comment\n")
    assert ids(result) == ["#20_clap", "my clip"]
    assert "1 lines that start with '#' name no video and are skipped as comments" in result.stderr


def test_names_ended_by_nul_bytes_are_taken_as_they_are(folder: Path) -> None:
    write_video(folder / "two\nlines.mp4", moving_texture(3), codec="mpeg4")
    result = planned(["-0", "-"], text=b"my clip.mp4\0two\nlines.mp4\0#20_clap.avi\0")
    assert sorted(ids(result)) == sorted(["my clip", "two\nlines", "#20_clap"])


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode(),
    ],
    ids=["mark", "utf-16", "windows lines", "semicolons", "tabs"],
)
def test_a_list_is_read_as_spreadsheets_write_it(encode: object, folder: Path) -> None:
    (folder / "list.csv").write_bytes(encode("path,label\nmy clip.mp4,1\nplain.mp4,2\n"))  # type: ignore[operator]
    (folder / "classes.txt").write_bytes(codecs.BOM_UTF8 + b"1 Jump\r\n2 Run\r\n")
    result = planned(["--list", "list.csv", "--classes", "classes.txt"])
    assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == ["Jump", "Run"]


def test_a_list_of_another_encoding_is_one_line_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "list.txt").write_bytes("plain.mp4 1\nGröße.mp4 1\n".encode("latin-1"))
    monkeypatch.setattr("sys.argv", ["flowkit", "extract", "--list", "list.txt", "out.h5"])
    with pytest.raises(SystemExit) as ended:
        flowkit_cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flowkit: list.txt:2: byte 0xf6 is not UTF-8; expected UTF-8, or UTF-16")


def test_what_a_folder_holds_besides_videos_is_said_also_if_quiet(folder: Path) -> None:
    (folder / "poster_1.jpg").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"text")
    result = planned([folder])
    assert ids(result) == ["#20_clap", "my clip", "plain"]
    assert "1 images ignored, since videos are beside or below them" in result.stderr
    assert "no videos and left out: 1 .txt (notes.txt)" in result.stderr
    assert ids(planned([folder, "--images", "sequence"])) == [folder.name]


def test_a_start_beyond_the_end_says_so(folder: Path) -> None:
    (folder / "list.csv").write_text("path,start,end\nplain.mp4,100,110\nmy clip.mp4,0,10\n")
    words = ["extract", "--list", "list.csv", "out.h5", "--jobs", "1", "--quiet", "--backend", "opencv"]
    result = CliRunner().invoke(flowkit_cli.group, words)
    assert result.exit_code == 1
    assert "the start at 100 s is beyond the end of the video, which is 0.12 s long" in result.stderr
    assert "plain.mp4 from 100 s to 110 s: too_short" in result.stderr


def test_parts_of_one_file_are_told_apart_in_the_ledger(folder: Path) -> None:
    (folder / "list.csv").write_text("path,start,end\nplain.mp4,100,110\nplain.mp4,200,\n")
    words = ["extract", "--list", "list.csv", "out.h5", "--jobs", "1", "--quiet", "--backend", "opencv"]
    assert CliRunner().invoke(flowkit_cli.group, words).exit_code == 1
    lines = [json.loads(line) for line in Path("out.h5.failures.jsonl").read_text().splitlines()]
    assert [(line["video_id"], line["start_seconds"], line.get("end_seconds")) for line in lines] == [
        ("plain_000100_000110", 100.0, 110.0),
        ("plain_000200_end", 200.0, None),
    ]
    with flowkit.open("out.h5") as store:
        assert [failure.video_id for failure in store.failures] == ["plain_000100_000110", "plain_000200_end"]
        assert store.failures[1].end_seconds is None
    # One of them alone is tried again: the other stays in the ledger.
    (folder / "list.csv").write_text("path,start,end\nplain.mp4,0,\nplain.mp4,200,\n")
    assert CliRunner().invoke(flowkit_cli.group, words).exit_code == 1
    lines = [json.loads(line) for line in Path("out.h5.failures.jsonl").read_text().splitlines()]
    assert [line["video_id"] for line in lines] == ["plain_000100_000110", "plain_000200_end"]


def test_an_unreadable_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = planned([folder])
    assert len(ids(result)) == 3
    assert "closed: cannot be read: Permission denied; what is in it is missing" in result.stderr


def extract(*words: str) -> Result:
    command = ["extract", "plain.mp4", "out.h5", "--jobs", "1", "--native", *words]
    return CliRunner().invoke(flowkit_cli.group, command)


def test_methods_are_options_fields_and_lines_of_info(folder: Path) -> None:
    done = extract("--method", "dis/fast", "--field", "b=tvl1/fast", "--field", "c=farneback", "--backward")
    assert done.exit_code == 0, done.output
    assert "flow_backward: dis preset fast\n" in done.stderr
    assert "b: TV-L1 preset fast, backend " in done.stderr
    said = CliRunner().invoke(flowkit_cli.group, ["info", "out.h5"]).stdout
    assert re.findall(r"field +(.*), step 1", said) == [
        "flow: dis preset fast",
        "flow_backward: dis preset fast",
        "b: TV-L1 preset fast",
        "c: farneback preset samples",
    ]


def test_a_function_in_the_working_folder_is_a_method(folder: Path) -> None:
    Path("mine_to_extract.py").write_text(
        "import numpy as np\n\n"
        "def still(pairs):\n"
        "    n, _, height, width, _ = pairs.shape\n"
        "    return np.full((n, 2, height, width), n, np.float32)\n"
    )
    done = extract("--method", "mine_to_extract:still", "--batch-size", "2")
    assert done.exit_code == 0, done.output
    with flowkit.open("out.h5") as store:
        assert store["plain"].record.backend == "mine_to_extract:still"
        assert np.all(store["plain"].flow() == 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "raft"], "Invalid method ('raft'). Supported are tvl1, dis, farneback"),
        (["--method", "dis", "--preset", "fast"], "--preset is an option of --method tvl1, got --method dis"),
        (["--method", "dis", "--lambda", "0.1"], "--lambda is an option of --method tvl1, got --method dis"),
        (["--method", "nowhere_at_all:f"], "method 'nowhere_at_all:f' cannot be imported: ModuleNotFound"),
        (["--field", "flow_dis"], "'flow_dis' is not NAME=METHOD"),
        (["--field", "flow=dis"], "a further field cannot be 'flow'"),
        (["--batch-size", "4"], "batch_size must be given with a method package.module:function"),
    ],
)
def test_methods_that_cannot_be_are_one_line_and_status_2(
    words: list[str],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["flowkit", "extract", "plain.mp4", "out.h5", *words])
    with pytest.raises(SystemExit) as ended:
        flowkit_cli.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out.h5").exists()


@pytest.mark.slow
def test_a_cluster_of_this_machine_stores_what_worker_processes_store(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b"):
        mjpeg_avi(folder / f"{name}.avi", moving_texture(4, height=32, width=48))
    (folder / "bad.avi").write_bytes(b"RIFF")
    done = flowkit_says("extract", folder, tmp_path / "out.h5", "--dask", "local", "--jobs", 2)
    assert done.returncode == 1, done.stderr
    assert "2 stored" in done.stderr
    assert "unopenable" in done.stderr
    assert "Traceback" not in done.stderr
    assert flowkit_says("extract", folder, tmp_path / "two.h5", "--jobs", 2).returncode == 1
    done = flowkit_says("compare", tmp_path / "out.h5", tmp_path / "two.h5")
    assert done.returncode == 0
    with flowkit.open(tmp_path / "out.h5") as one, flowkit.open(tmp_path / "two.h5") as two:
        assert all((one[k].flow() == two[k].flow()).all() for k in ("a", "b"))


def test_a_cluster_that_does_not_answer_is_said_before_the_start(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    mjpeg_avi(tmp_path / "a.avi", moving_texture(4, height=32, width=48))
    done = flowkit_says("extract", tmp_path / "a.avi", tmp_path / "out.h5", "--dask", tmp_path / "gone.json")
    assert done.returncode == 2
    assert "no dask scheduler answers at" in done.stderr
    assert "Traceback" not in done.stderr
