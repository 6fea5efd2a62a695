"""`--dask` of the commands that work on many videos: the same results as by this machine's processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")

import flowkit
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import VideoSource
from flowkit_cli.cluster import some_paths
from tests.make import clips
from tests.make.command import flowkit_says
from tests.make.small import NATIVE

pytestmark = pytest.mark.slow


def test_import_export_and_verify_on_a_cluster(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        clips.lossless_mkv(videos / f"{name}.mkv", clips.moving_texture(4, height=32, width=40))
    store, frames, again = tmp_path / "out.h5", tmp_path / "frames", tmp_path / "in.h5"
    extract([videos], store, config=ExtractConfig(resize=NATIVE, jobs=1, flow_codec="jpeg"))
    for words in (
        ("export", store, frames, "--layout", "tsn", "--dask", "local", "--jobs", 2),
        (
            "import",
            frames,
            again,
            "--layout",
            "tsn",
            "--dask",
            "local",
            "--jobs",
            2,
            "--log-file",
            tmp_path / "log",
        ),
        ("verify", again, "--deep", "--dask", "local", "--jobs", 2),
    ):
        done = flowkit_says(*words)
        assert done.returncode == 0, done.stderr
    assert '"worker": "tcp://127.0.0.1:' in (tmp_path / "log").read_text()
    with flowkit.open(store) as one, flowkit.open(again) as other:
        assert list(one) == list(other) == ["a", "b"]
        for name in one:
            np.testing.assert_array_equal(one[name].flow(), other[name].flow())


def test_verify_on_a_cluster_decodes(tmp_path: Path) -> None:
    done = flowkit_says("verify", tmp_path / "out.h5", "--dask", "local")
    assert (done.returncode, "it goes with --deep" in done.stderr) == (2, True)


def test_only_what_is_here_must_be_seen_by_the_workers(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    sources = [VideoSource(path=path, video_id=path.name) for path in paths]
    paths[0].touch()
    assert some_paths(sources) == [paths[0]]
    assert some_paths([]) == []
