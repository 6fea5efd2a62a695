"""Commands as a user types them, in processes of their own."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

import flowkit
import flowkit_cli
from tests.make import clips, small
from tests.make.command import command_line, flowkit_says

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = list(flowkit_cli.COMMANDS)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "drift").mkdir(parents=True)
    clips.mjpeg_avi(folder / "drift" / "one.avi", clips.moving_texture(4))
    clips.mjpeg_avi(folder / "drift" / "two.avi", clips.moving_texture(4, seed=1))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "out.h5"


def parameters(name: str) -> list[click.Parameter]:
    """Return the arguments and options of a command."""
    command = flowkit_cli.group.get_command(click.Context(flowkit_cli.group), name)
    assert command is not None
    params: list[click.Parameter] = command.params
    return params


def test_help_lists_each_command_and_is_quick() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = flowkit_says("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0
    assert all(re.search(rf"^  {name} ", done.stdout, re.MULTILINE) for name in COMMANDS)
    # CPU time, which other load disturbs least; a quiet machine's wall time is about the same.
    assert min(seconds) < 0.2


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_and_each_of_its_options_has_help(name: str) -> None:
    done = flowkit_says(name, "--help")
    assert done.returncode == 0
    assert f"flowkit {name}" in done.stdout.replace("-c", "flowkit")
    options = [option for option in parameters(name) if isinstance(option, click.Option)]
    assert options
    assert [option.opts for option in options if not option.help] == []
    assert [option.opts for option in options if max(option.opts, key=len) not in done.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_or_docs_name_each_command(name: str) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(re.search(rf"flowkit {name}\b", page.read_text()) for page in pages)


def test_help_names_the_folder_of_a_run_alike_everywhere() -> None:
    assert {name for name in COMMANDS if re.search(r"\bRUN\b", flowkit_says(name, "--help").stdout)} == {
        *("train", "eval", "predict", "features", "export-model", "report")
    }


def test_o_is_what_is_written_in_every_command() -> None:
    short = {name: option.opts for name in COMMANDS for option in parameters(name) if "-o" in option.opts}
    assert set(short) == {
        *("export-model", "features", "fuse", "report", "view", "flow"),
        *("merge", "subset", "relabel", "recode"),
    }
    assert {tuple(sorted(flags)) for flags in short.values()} == {("--out", "-o")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_thin_wrapper(name: str) -> None:
    module = ROOT / "cli" / ("import_.py" if name == "import" else f"{name.replace('-', '_')}.py")
    functions = [node for node in ast.parse(module.read_text()).body if isinstance(node, ast.FunctionDef)]
    (command,) = (node for node in functions if node.name == "command")
    body = command.body[1:]  # without the docstring
    assert body[-1].end_lineno is not None
    assert body[-1].end_lineno - body[0].lineno < 25


def test_readme_options_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    known = "".join(flowkit_says(name, "--help").stdout for name in COMMANDS)
    # pip's own options stand in the set-up commands.
    flags = set(re.findall(r"`[^`]*?(--[a-z][a-z-]+)", readme)) - {"--check"}
    assert flags
    assert {flag for flag in flags if flag not in known} == set()


def test_extract_then_info_then_verify(videos: Path, store: Path) -> None:
    done = flowkit_says("extract", videos, store)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "2 stored" in done.stderr
    assert "\r" not in done.stderr
    info = json.loads(flowkit_says("info", store, "--json").stdout)
    assert (info["n_videos"], info["n_flow"], info["per_label"]) == (2, 6, {"drift": 2})
    assert "drift/one" in flowkit_says("info", store, "drift/one").stdout
    verified = flowkit_says("verify", store)
    assert verified.returncode == 0
    assert "sound; 2 videos, 8 frames, 6 flow fields" in verified.stdout


def test_json_has_one_line_per_video(videos: Path, store: Path) -> None:
    (videos / "bad.mp4").write_bytes(b"")
    done = flowkit_says("extract", videos, store, "--json", "--quiet")
    assert done.returncode == 1
    rows = {row["video_id"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert {k: row["status"] for k, row in rows.items()} == {
        "bad": "failed",
        "drift/one": "stored",
        "drift/two": "stored",
    }
    assert rows["bad"]["failure"]["reason"] == "unopenable"
    again = flowkit_says("extract", videos, store, "--json")
    statuses = [json.loads(line)["status"] for line in again.stdout.splitlines()]
    assert sorted(statuses) == ["already_stored", "already_stored", "failed"]


def test_dry_run_prints_the_plan_and_writes_nothing(videos: Path, store: Path) -> None:
    done = flowkit_says("extract", videos, store, "--dry-run", "--preset", "fast")
    assert done.returncode == 0
    assert "drift/one" in done.stdout
    assert list(store.parent.iterdir()) == [videos]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing", "OUT"], "no such file or folder"),
        (["EMPTY", "OUT"], "no video below"),
        (["OUT"], "no INPUT"),
        (["VIDEOS", "OUT", "--native", "--short-side", "8"], "exclude one another"),
        (["VIDEOS", "OUT", "--size", "8"], "--size must be WxH"),
        (["VIDEOS", "OUT", "--tau", "0.5"], r"tau must be in \(0, 0.25\], got 0.5"),
        (["VIDEOS", "OUT", "--backend", "opencv", "--preset", "ipol"], "ipol|gaussian"),
        (["VIDEOS", "OUT", "--step", "0"], "step must be >= 1"),
        (["VIDEOS", "OUT", "--nonsense"], "No such option"),
    ],
)
def test_what_cannot_start_is_status_2_and_one_clear_word(
    words: list[str], message: str, videos: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"OUT": store, "VIDEOS": videos, "EMPTY": tmp_path / "empty"}
    done = flowkit_says("extract", *[names.get(word, word) for word in words])
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert not store.exists()


def test_changed_options_are_named(videos: Path, store: Path) -> None:
    flowkit_says("extract", videos, store)
    done = flowkit_says("extract", videos, store, "--step", "2", "--epsilon", "0.02")
    assert done.returncode == 2
    assert "step: stored 1, asked 2" in done.stderr
    assert "epsilon" in done.stderr


def test_options_come_from_the_environment(videos: Path, store: Path) -> None:
    environment = {**os.environ, "FLOWKIT_EXTRACT_STEP": "2", "FLOWKIT_EXTRACT_FRAMES": "none"}
    assert flowkit_says("extract", videos, store, env=environment).returncode == 0
    with flowkit.open(store) as opened:
        assert (opened.options.step, opened.options.frame_codec) == (2, "none")


def test_lists_come_from_standard_input(videos: Path, store: Path) -> None:
    lines = f"{videos}/drift/one.avi 4 0\n{videos}/gone.avi 4 1\n"
    classes = videos / "classes.txt"
    classes.write_text("drift\nshake\n")
    done = flowkit_says("extract", "-", store, "--root", videos, "--classes", classes, input=lines)
    assert done.returncode == 1
    with flowkit.open(store) as opened:
        assert list(opened) == ["drift/one"]
        assert opened["drift/one"].label == "drift"
        assert opened.labels == ("drift", "shake")
        assert opened.failures[0].reason == "unopenable"


def test_a_damaged_part_is_named_and_its_video_made_again(videos: Path, store: Path) -> None:
    parts = store.with_name("out.h5.parts")
    parts.mkdir()
    (parts / "drift%2Fone.h5").write_bytes(b"no HDF5")
    done = flowkit_says("extract", videos, store)
    assert done.returncode == 0
    assert "damaged part" in done.stderr
    assert "2 stored" in done.stderr
    assert not parts.exists()


def test_shards_of_a_run_merge_into_the_whole(videos: Path, store: Path) -> None:
    parts = [store.with_name(f"{k}.h5") for k in (1, 2)]
    for k, part in enumerate(parts, 1):
        assert flowkit_says("extract", videos, part, "--shard", f"{k}/2").returncode == 0
    assert flowkit_says("merge", *parts, "-o", store).returncode == 0
    with flowkit.open(store) as opened:
        assert list(opened) == ["drift/one", "drift/two"]
    assert flowkit_says("verify", store).returncode == 0
    assert "is not I/N" in flowkit_says("extract", videos, store, "--shard", "3/2").stderr


def test_verify_finds_a_flipped_bit_and_repair_lets_extract_mend_it(videos: Path, store: Path) -> None:
    flowkit_says("extract", videos, store)
    import h5py

    with h5py.File(store) as file:
        where = file["videos/drift/one/flow"].id.get_chunk_info(1).byte_offset + 7
    data = bytearray(store.read_bytes())
    data[where] ^= 4
    store.write_bytes(data)
    done = flowkit_says("verify", store)
    assert done.returncode == 1
    assert "drift/one" in done.stdout
    assert "NOT SOUND" in done.stdout
    assert flowkit_says("verify", store, "--repair").returncode == 1
    assert flowkit_says("verify", store).returncode == 0
    assert "1 to extract, 1 already stored" in flowkit_says("extract", videos, store).stderr
    assert flowkit_says("verify", store).returncode == 0


def test_verify_tells_what_cannot_be_read_from_what_is_broken(tmp_path: Path, store: Path) -> None:
    videos, rng = tmp_path / "videos", np.random.default_rng(0)
    (videos / "noise").mkdir(parents=True)
    # Each more than a shard.
    for name in ("one", "two"):
        frames = rng.integers(0, 256, (14, 240, 320, 3), dtype=np.uint8)
        clips.mjpeg_avi(videos / "noise" / f"{name}.avi", frames)
    sized = ("--short-side", "240", "--shard-size", "1MiB", "--iterations", "1")
    assert flowkit_says("extract", videos, store, *sized).returncode == 0
    shards = store.with_name(f"{store.name}.shards")
    assert flowkit_says("verify", store, "--lost").returncode == 2
    shards.rename(tmp_path / "away")
    for words in ((), ("--json",), ("--repair",), ("--repair", "--delete")):
        done = flowkit_says("verify", store, *words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "NOT SOUND" not in done.stdout
    assert "NOT READ AS A WHOLE" in flowkit_says("verify", store).stdout
    done = flowkit_says("extract", videos, store, *sized)
    assert done.returncode == 2
    assert "put them back, or mount their folder" in done.stderr
    (tmp_path / "away").rename(shards)
    assert flowkit_says("verify", store, "--repair").returncode == 0
    for shard in shards.iterdir():
        shard.unlink()
    done = flowkit_says("verify", store, "--repair", "--lost")
    assert done.returncode == 1
    assert "dropped 2 videos: noise/one, noise/two" in done.stderr
    assert flowkit_says("verify", store).returncode == 0


def test_a_store_that_is_none_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no HDF5")
    for words in (("info", tmp_path / "x.h5"), ("verify", tmp_path / "gone.h5")):
        done = flowkit_says(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("flowkit: ")
        assert "Traceback" not in done.stderr


def test_ctrl_c_stops_within_two_seconds_and_says_how_to_go_on(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips.mjpeg_avi(folder / "short.avi", clips.moving_texture(2, height=16, width=16))
    clips.mjpeg_avi(folder / "sleepy.avi", clips.moving_texture(300, height=240, width=320))
    # A process group of its own, as a terminal gives: Ctrl-C reaches the workers too.
    words = ["extract", folder, store, "--json", "--backend", "reference", "--jobs", "2"]
    process = subprocess.Popen(
        command_line(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["video_id"] == "short"
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert time.monotonic() - began < 2
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "the same command again goes on from there" in said
    assert "Traceback" not in said
    left = {path.name for path in (tmp_path / "out.h5.parts").iterdir()}
    assert left == {"short.h5", "lock", "run.json"}


def test_doctor_names_the_backend_that_would_be_used() -> None:
    done = flowkit_says("doctor", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(row["text"].startswith("auto takes ") for row in rows)
    assert any(row["topic"] == "FFmpeg" for row in rows)


def shown(stdout: str) -> list[Path]:
    """Return the files that the last lines of a demo name, each of which is there."""
    files = [Path(word.removeprefix("file://")) for word in stdout.split() if word.startswith("file://")]
    assert all(path.is_file() for path in files)
    return files


def test_demo_runs_the_whole_path_and_keeps_its_files(tmp_path: Path) -> None:
    done = flowkit_says("demo", "--clips", "2", "--no-train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sound; 8 videos" in done.stdout
    folder = tmp_path / "flowkit-demo"
    assert shown(done.stdout) == [folder / "store.html", folder / "film.mp4"]
    with flowkit.open(folder / "out.h5") as opened:
        assert len(opened.labels) == 4
    again = flowkit_says("demo", "--no-train", cwd=tmp_path)
    assert again.returncode == 2
    assert "flowkit-demo is there and not empty" in again.stderr
    clean = flowkit_says("demo", "--clips", "1", "--no-train", "--clean", cwd=tmp_path)
    assert (clean.returncode, shown(clean.stdout)) == (0, [])
    assert "the files are deleted (--clean)" in clean.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["flowkit-demo"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as where it is not installed
import flowkit_cli
for words in map(str.split, sys.argv[1:]):
    sys.argv[1:] = words
    print(words[0], flowkit_cli._run())
"""


def test_without_pytorch_each_command_that_needs_it_names_the_remedy(videos: Path, tmp_path: Path) -> None:
    table, run = tmp_path / "t.csv", tmp_path / "run"
    table.write_text("id,label\n")
    run.mkdir()
    small.run(videos, tmp_path / "out.h5")
    lines = [
        f"train {tmp_path / 'out.h5'}",
        f"eval {run}",
        f"predict {table} --run {run}",
        f"features {table} -o {tmp_path / 'out'}",
        f"fuse {table} {table} --labels {table}",
        f"export-model {run} -o {tmp_path / 'm.pt2'}",
        f"report {run}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{line.split()[0]} 2" for line in lines]
    assert done.stderr.count("pip install '.[train]'") == len(lines), done.stderr


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_demo_refuses_too_few_clips_to_train_before_it_begins(tmp_path: Path, clips: int) -> None:
    pytest.importorskip("torch")
    done = flowkit_says("demo", "--clips", clips, cwd=tmp_path)
    assert done.returncode == 2
    assert f"training needs --clips 4 or more, got {clips}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_says_where_it_cannot_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words, message in (
        (("--keep", tmp_path / "file" / "deeper"), "Not a directory"),
        (("--keep", tmp_path / "new", "--clean"), "exclude one another"),
    ):
        done = flowkit_says("demo", "--no-train", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_demo_trains_and_reports(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = flowkit_says("demo", "--clips", "4", "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "oracle (to read only)" in done.stdout
    store, report, film = shown(done.stdout)
    assert {store.name, film.name} == {"store.html", "film.mp4"}
    assert report == tmp_path / "kept" / "run" / "report.html"
    assert "<html" in report.read_text()
