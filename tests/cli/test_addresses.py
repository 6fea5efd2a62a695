"""Commands that read a store, given its address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowkit_cli import compare, export, info, view
from tests.make import stores
from tests.make.servers import FileServer, bytes_below, s3_bucket, serving


@pytest.fixture
def store(tmp_path: Path) -> Path:
    videos = {"a/b": stores.noise(8, 0, height=24, width=40), "c": stores.steady(3, 1, 0)}
    return stores.write_store(tmp_path / "there" / "s.h5", videos)


@pytest.fixture
def server(store: Path) -> Iterator[FileServer]:
    with serving(bytes_below(store.parent)) as server:
        yield server


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(command: Any, *words: object) -> Result:
    done = CliRunner().invoke(command.command, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_info_names_the_address(server: FileServer, store: Path) -> None:
    there, here = (json.loads(run(info, name, "--json").stdout) for name in (f"{server.url}/s.h5", store))
    assert there.pop("path") == f"{server.url}/s.h5"
    del here["path"]
    assert there == here


def test_info_of_a_bucket(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_bucket(monkeypatch, "clips") as bucket:
        bucket.pipe("clips/s.h5", store.read_bytes())
        assert run(info, "s3://clips/s.h5").output.startswith("s3://clips/s.h5: 2 videos")


def test_view_draws_a_video_and_the_page(server: FileServer, here: Path) -> None:
    run(view, f"{server.url}/s.h5", "c")
    run(view, f"{server.url}/s.h5", "--html")
    assert {path.name for path in here.iterdir()} == {"c.png", "s.h5.html"}


def test_export_writes_the_same_files(server: FileServer, store: Path, here: Path) -> None:
    for name, source in (("far", f"{server.url}/s.h5"), ("near", store)):
        run(export, source, here / name, "--layout", "npy", "--content", "flow", "--jobs", 2)
    files = {name: bytes_below(here / name) for name in ("far", "near")}
    arrays = [{k: data for k, data in found.items() if k.endswith(".npy")} for found in files.values()]
    assert arrays[0] == arrays[1]
    assert len(arrays[0]) > 1


def test_compare_takes_an_address_and_a_path(server: FileServer, store: Path) -> None:
    found = json.loads(run(compare, f"{server.url}/s.h5", store, "--json", "--jobs", 1).stdout)
    assert found["passes"]
    assert found["overall"]["epe_max_px"] == 0
    assert len(found["videos"]) == 2
