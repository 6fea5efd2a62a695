"""Videos at addresses: a web server, fsspec's memory, an S3 server."""

from __future__ import annotations

import dataclasses
import datetime
import io
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowkit.errors import InputError
from flowkit.executor import InlineExecutor
from flowkit.extraction.address_input import file_stamp
from flowkit.extraction.held import NO_TIME
from flowkit.extraction.plan import Plan
from flowkit.extraction.run import ExtractReport, prepare, run
from flowkit.extraction.sources import find_sources
from flowkit.store.read.store import open_store
from flowkit.tvl1.params import PRESETS
from tests.make import clips, small
from tests.make.servers import s3_bucket, serving

fsspec: Any = pytest.importorskip("fsspec")

FAST = dataclasses.replace(small.SMALL, params=PRESETS["fast"])
OCTOBER_2015_NS = 1_445_412_480 * 10**9


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("made") / "made.avi"
    clips.mjpeg_avi(path, clips.moving_texture(2))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporaries"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/flowkit"):
        system.rm("/flowkit", recursive=True)


def extract(address: str, store: Path, **changes: object) -> ExtractReport:
    config = dataclasses.replace(FAST, **changes)  # type: ignore[arg-type]
    setup = prepare(find_sources(address, on_note=lambda _: None), store, config=config)
    with InlineExecutor() as executor:
        return run(setup, executor=executor)


def plan(address: str, store: Path) -> Plan:
    return prepare(find_sources(address, on_note=lambda _: None), store, config=FAST).plan


def test_a_file_of_a_web_server(tmp_path: Path, video: bytes, scratch: Path) -> None:
    with serving({"there/a clip.avi": video}) as server:
        address = f"{server.url}/there/a%20clip.avi"
        assert extract(address, tmp_path / "out.h5").failures == ()
        with open_store(tmp_path / "out.h5") as store:
            record = store["a clip"].record
        assert (record.source_name, record.source_bytes) == (address, len(video))
        assert record.source_mtime_ns == OCTOBER_2015_NS
        assert list(scratch.iterdir()) == []
        sent = server.sent
        assert len(plan(address, tmp_path / "out.h5").stored) == 1
        assert server.sent == sent


def test_a_file_with_another_time_is_compared_by_its_contents(tmp_path: Path, video: bytes) -> None:
    with serving({"a.avi": video}) as server:
        address, store = f"{server.url}/a.avi", tmp_path / "out.h5"
        extract(address, store)
        server.modified = "Thu, 22 Oct 2015 07:28:00 GMT"
        assert len(plan(address, store).stored) == 1
        server.files["a.avi"] = video[:-1] + b"?"
        assert len(plan(address, store).changed) == 1


def test_without_a_time_the_tag_decides_and_without_both_the_contents(tmp_path: Path, video: bytes) -> None:
    with serving({"a.avi": video}) as server:
        address = f"{server.url}/a.avi"
        server.modified, server.tag = None, '"one"'
        extract(address, tmp_path / "tagged.h5")
        sent = server.sent
        assert len(plan(address, tmp_path / "tagged.h5").stored) == 1
        assert server.sent == sent
        server.tag = None
        extract(address, tmp_path / "bare.h5")
        assert len(plan(address, tmp_path / "bare.h5").stored) == 1
        server.files["a.avi"] = video[:-1] + b"?"
        assert len(plan(address, tmp_path / "bare.h5").changed) == 1
    with open_store(tmp_path / "tagged.h5") as store:
        assert store["a"].record.source_mtime_ns < NO_TIME


def test_what_cannot_be_fetched_costs_itself(tmp_path: Path, video: bytes) -> None:
    with serving({"a.avi": video}) as server:
        sources = find_sources(f"{server.url}/a.avi")
        server.status = 503
        with InlineExecutor() as executor:
            report = run(prepare(sources, tmp_path / "out.h5", config=FAST), executor=executor)
    (failure,) = report.failures
    assert failure.reason == "io_error"
    assert failure.source == f"{server.url}/a.avi"


def test_a_folder_has_ids_and_labels_by_its_paths(tmp_path: Path, video: bytes, memory: Any) -> None:
    for name in ("run/a.avi", "walk/b.avi", "walk/notes.txt", ".hidden/c.avi"):
        memory.pipe(f"/flowkit/videos/{name}", video)
    notes: list[str] = []
    sources = find_sources("memory://flowkit/videos/", on_note=notes.append)
    assert [(source.video_id, source.label) for source in sources] == [("run/a", "run"), ("walk/b", "walk")]
    assert sources[0].name == "memory://flowkit/videos/run/a.avi"
    assert any("1 .txt" in note for note in notes)
    assert find_sources("memory://flowkit/videos", on_note=lambda _: None) == sources


def test_a_bucket(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    with s3_bucket(monkeypatch, "clips") as bucket:
        for name in ("run/a.avi", "walk/b.avi"):
            bucket.pipe(f"clips/videos/{name}", video)
        assert extract("s3://clips/videos/", tmp_path / "out.h5").failures == ()
        assert len(plan("s3://clips/videos/", tmp_path / "out.h5").stored) == 2
        bucket.pipe("clips/videos/walk/b.avi", video + b"more")
        assert [one.video_id for one in plan("s3://clips/videos/", tmp_path / "out.h5").changed] == ["walk/b"]
    with open_store(tmp_path / "out.h5") as store:
        assert store["run/a"].record.source_name == "s3://clips/videos/run/a.avi"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_at_an_address(tmp_path: Path, video: bytes, mode: Any) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        info = tarfile.TarInfo("run/a.avi")
        info.size = len(video)
        archive.addfile(info, io.BytesIO(video))
    name = "v.tar" if mode == "w" else "v.tar.gz"
    with serving({name: packed.getvalue()}) as server:
        assert extract(f"{server.url}/{name}", tmp_path / "out.h5").stored == 1


def test_what_is_not_there_is_an_error_of_input(memory: Any) -> None:
    with pytest.raises(InputError, match="no such file or folder: memory://flowkit/none"):
        find_sources("memory://flowkit/none")
    memory.pipe("/flowkit/other/a.txt", b"x")
    with pytest.raises(InputError, match=r"no video below memory://flowkit/other: .*1 \.txt"):
        find_sources("memory://flowkit/other")
    with serving({}) as server, pytest.raises(InputError, match="no such file"):
        find_sources(f"{server.url}/a.avi")


def test_stamps_are_times_or_numbers_of_tags() -> None:
    moment = datetime.datetime(2015, 10, 21, 7, 28, tzinfo=datetime.UTC)
    for about in (
        {"LastModified": moment},
        {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": "x"},
        {"mtime": moment.timestamp()},
        {"updated": "2015-10-21T07:28:00+00:00"},
    ):
        assert file_stamp(about) == OCTOBER_2015_NS
    assert file_stamp({}) == NO_TIME
    tagged = file_stamp({"ETag": "x"})
    assert -(2**63) < tagged < NO_TIME - 1
    assert tagged != file_stamp({"ETag": "y"})


def test_ctrl_c_leaves_no_scratch(tmp_path: Path) -> None:
    path = tmp_path / "long.avi"
    clips.mjpeg_avi(path, clips.moving_texture(40, height=240, width=320))
    folder = tmp_path / "scratch"
    with serving({"long.avi": path.read_bytes()}) as server:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "flowkit_cli", "extract", f"{server.url}/long.avi", "out.h5"),
                *("--scratch", str(folder), "--jobs", "1", "--backend", "reference", "--native"),
            ],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not list(folder.glob("*/video*/video.avi")) and time.monotonic() < deadline:
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert list(folder.iterdir()) == []
