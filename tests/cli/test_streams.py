"""Closed, broken and full standard streams: the work goes on, and the status says what was lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import pytest

import flowkit
import flowkit_cli
from flowkit.store.schema import FORMAT
from flowkit_cli.streams import Streams, _Output, printable
from tests.make import clips
from tests.make.stores import noise, write_store
from tests.rawframes.conftest import opencv_folder

COMMAND = 'exec "$0" -c "import flowkit_cli; flowkit_cli.main()" "$@"'
EXTRACTION = ("--short-side", "16", "--backend", "opencv", "--jobs", "1", "--json")


def run_redirected(redirections: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell with its streams redirected so."""
    return subprocess.run(
        ["sh", "-c", f"{COMMAND} {redirections}", sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return clips.mjpeg_avi(tmp_path / "one.avi", clips.moving_texture(3, height=16, width=16))


@pytest.fixture
def small_store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "small.h5", {"a/1": noise(2, 0)})


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_an_extraction_goes_on_with_closed_streams(video: Path, tmp_path: Path, closed: str) -> None:
    done = run_redirected(closed, "extract", video, tmp_path / "out.h5", *EXTRACTION)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_an_import_and_an_export_go_on_with_standard_output_closed(small_store: Path, tmp_path: Path) -> None:
    out, frames = tmp_path / "frames", opencv_folder(tmp_path / "in" / "walk" / "a", 3).parent.parent
    done = run_redirected(">&-", "export", small_store, out, "--layout", "tsn", "--jobs", "1", "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert (out / "a/1/flow_y_00002.jpg").exists()
    done = run_redirected(">&-", "import", frames, tmp_path / "in.h5", "--layout", "tsn", "--jobs", "1")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert flowkit.verify(tmp_path / "in.h5").sound


def test_a_reader_that_leaves_does_not_end_the_work(video: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-c", "import flowkit_cli; flowkit_cli.main()", "extract", str(video)]
    done = subprocess.run(
        [*words, str(tmp_path / "out.h5"), *EXTRACTION],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    os.close(writing)
    assert done.returncode == 0
    assert "1 stored" in done.stderr
    assert "standard output: its reader has left" in done.stderr
    assert flowkit.verify(tmp_path / "out.h5").sound


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_is_lost_gives_status_1_with_its_cause(small_store: Path) -> None:
    done = run_redirected(">/dev/full", "info", small_store)
    assert done.returncode == 1
    assert done.stderr == ("flowkit: standard output: No space left on device; not all of it was written\n")
    assert run_redirected("2>/dev/full", "info", small_store).returncode == 0


def test_standard_input_that_is_closed_is_an_empty_list(tmp_path: Path) -> None:
    done = run_redirected("<&-", "extract", "-", tmp_path / "out.h5", *EXTRACTION)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_non_blocking_pipe_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data, found = os.urandom(1 << 20), bytearray()

    def read() -> None:
        while block := os.read(reading, 1 << 16):
            found.extend(block)

    reader = threading.Thread(target=read)
    reader.start()
    output = _Output(writing)
    assert output.write(data) == len(data)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert (bytes(found), output.error) == (data, None)


def test_an_output_takes_everything_after_its_first_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = _Output(writing)
    assert [output.write(b"one"), output.write(b"two")] == [3, 3]
    assert output.error is not None
    assert output.error.errno == errno.EPIPE
    os.close(writing)


def test_names_that_the_encoding_lacks_are_escaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import flowkit_cli.streams as s; s.Streams(); print('a\\u3042\\udcff')"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        check=True,
        timeout=60,
    )
    assert done.stdout == b"a\\u3042\\udcff\n"


def test_streams_of_a_test_stay_in_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, sys.stderr)
    streams = Streams()
    print("seen")
    assert streams.finish(3) == 3
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "seen\n"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError(errno.EMFILE, "Too many")])
def test_a_limit_of_the_system_is_one_line_and_status_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(**_: object) -> None:
        raise error

    monkeypatch.setattr(flowkit_cli.group, "main", end)
    assert flowkit_cli._run() == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "raise the limit" in said) == (1, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a name of 1\u00a0px: видео/動画\tx\n", "a name of 1\u00a0px: видео/動画\tx\n"),
        ("\x1b]0;title\x07\x1b[31mred", r"\x1b]0;title\x07\x1b[31mred"),
        ("a\rb\x7f\x9b2J\0", r"a\rb\x7f\x9b2J\x00"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_names_and_texts_of_a_store_from_elsewhere_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path,
) -> None:
    hostile = "a\x1b]0;title\x07b"
    write_store(tmp_path / "x.h5", {hostile: noise(2, 0)})
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": f"9{hostile}"})
    for words in (
        ("info", "x.h5", "--videos"),
        ("info", "y.h5"),
        ("verify", "x.h5"),
        ("compare", "x.h5", "x.h5"),
    ):
        done = run_redirected("", *words[:1], *(tmp_path / name for name in words[1:] if "." in name))
        assert "\x1b" not in done.stdout + done.stderr, words
        assert "\x07" not in done.stdout + done.stderr, words
