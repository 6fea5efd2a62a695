"""A video that hangs: it fails by name, its worker is replaced, and all others are stored."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import InvalidParameterError
from flowkit.executor import InlineExecutor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.patience import patience_seconds
from flowkit.extraction.run import extract, prepare, run
from flowkit.extraction.scratch import Scratch
from tests.make import clips
from tests.make.small import NATIVE
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

HANGS = "tests.make.flow_functions:hangs_at_white"


def test_a_video_that_hangs_costs_itself_alone(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    texture = clips.moving_texture(4, height=32, width=40)
    for name, frames in (("a", texture), ("hung", np.full_like(texture, 255)), ("z", texture)):
        clips.lossless_mkv(folder / f"{name}.mkv", frames)
    config = ExtractConfig(resize=NATIVE, jobs=2, method=HANGS, video_timeout=2)
    began = time.monotonic()
    report = extract([folder], tmp_path / "out.h5", config=config)
    assert time.monotonic() - began < 60
    assert [(one.video_id, one.reason) for one in report.failures] == [("hung", "timed_out")]
    assert report.failures[0].detail == "no progress for 2 s; its worker was ended, another goes on"
    with flowkit.open(tmp_path / "out.h5") as store:
        assert sorted(store) == ["a", "z"]
        assert [(one.video_id, one.reason) for one in store.failures] == [("hung", "timed_out")]
    assert flowkit.verify(tmp_path / "out.h5", deep=True).sound


def test_patience_grows_with_the_file_and_ends_where_it_is_asked_to() -> None:
    assert patience_seconds(None, 10_000_000_000) == 600 + 10_000
    assert patience_seconds(30.0, 10_000_000_000) == 30
    assert patience_seconds(0.0, 1) == math.inf


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="video_timeout"):
        ExtractConfig(video_timeout=-1)


def test_a_video_whose_flow_takes_long_is_not_taken_for_hung(tmp_path: Path) -> None:
    """It is decoded in no time; then each second a pair is done."""
    clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(7, height=32, width=40))
    config = ExtractConfig(resize=NATIVE, jobs=1, method="tests.make.flow_functions:slow", video_timeout=3)
    assert not extract([tmp_path / "a.mkv"], tmp_path / "out.h5", config=config).failures


def test_waiting_for_room_in_the_scratch_folder_is_a_sign_of_life(tmp_path: Path) -> None:
    beats = []
    scratch = Scratch(folder=tmp_path / "s", limit_bytes=100)

    def leave() -> None:
        beats.append(1)
        if len(beats) == 3:
            first.__exit__(None, None, None)

    first = scratch.room(80, ".mp4")
    first.__enter__()
    with scratch.room(80, ".mp4", on_beat=leave) as path:
        assert path.stat().st_size == 80
    assert len(beats) >= 3


def test_a_plan_for_gpus_elsewhere_and_one_for_those_here_are_refused_by_the_others_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(3, height=32, width=40))
    config = ExtractConfig(jobs=1, backend="cuda", resize=NATIVE)
    with InlineExecutor() as executor:
        executor.elsewhere = True
        setup = prepare([tmp_path / "a.mkv"], tmp_path / "out.h5", config=config, elsewhere=True)
        with pytest.raises(InvalidParameterError, match="whose workers need no GPU; make it with gpus=True"):
            run(setup, executor=executor)
        executor.elsewhere = False
        for here in (executor, None):
            with pytest.raises(InvalidParameterError, match="a DaskExecutor with gpus=True, or prepare the"):
                run(setup, executor=here)
        executor.elsewhere = True
        install(monkeypatch, FakeGpu())
        setup = prepare([tmp_path / "a.mkv"], tmp_path / "out.h5", config=config)
        with pytest.raises(InvalidParameterError, match="prepare it with elsewhere=True"):
            run(setup, executor=executor)
        named = dataclasses.replace(config, gpus=(0,))
        with pytest.raises(InvalidParameterError, match=r"gpus \[0\] are those of this machine"):
            prepare([tmp_path / "a.mkv"], tmp_path / "out.h5", config=named, elsewhere=True)


def test_auto_is_the_cpu_engine_of_workers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips.lossless_mkv(tmp_path / "a.mkv", clips.moving_texture(3, height=32, width=40))
    install(monkeypatch, FakeGpu())
    setups = [
        prepare([tmp_path / "a.mkv"], tmp_path / "out.h5", elsewhere=elsewhere) for elsewhere in (False, True)
    ]
    assert [one.backend.name for one in setups if one.backend is not None] == ["cuda", "cpu"]
