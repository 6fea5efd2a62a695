from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import (
    BackendError,
    BackendUnavailableError,
    InvalidParameterError,
    StoreBusyError,
    StoreCorruptError,
    StoreOptionsError,
    StoreUnreadableError,
)
from flowkit.executor import InlineExecutor, LocalExecutor, Worker
from flowkit.extraction import run as extraction
from flowkit.extraction import worker
from flowkit.extraction.sources import find_sources
from flowkit.extraction.store_run import VideoOutcome
from flowkit.extraction.worker import VideoTask, extract_video
from flowkit.jobs import Progress
from flowkit.resize_rule import ResizeRule
from flowkit.store.parts_folder import PartsFolder
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.server.client import ServerConfig
from tests.make import clips
from tests.make.small import SMALL, run, still_mkv


@pytest.fixture(autouse=True)
def _leaves_no_temporaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temporaries")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
        assert not list(folder.iterdir())


def test_a_folder_becomes_one_self_contained_file(videos: Path, store: Path) -> None:
    report = run(videos, store)
    assert report.stored == 2
    assert not report.failures
    assert sorted(path.name for path in store.parent.iterdir()) == ["out.h5", "videos"]
    with flowkit.open(store) as opened:
        assert list(opened) == ["drift/one", "two"]
        assert opened.labels == ("drift",)
        one = opened["drift/one"]
        assert (one.n_frames, one.n_flow, one.width, one.height) == (6, 5, 64, 48)
        assert np.allclose(one.pts, np.arange(6) / 25, atol=1e-3)
    assert flowkit.verify(store).sound


def test_paths_are_sources(videos: Path, tmp_path: Path) -> None:
    for name, sources in (("one.h5", str(videos)), ("two.h5", [videos / "drift", videos / "two.avi"])):
        with InlineExecutor() as executor:
            report = flowkit.extract(sources, tmp_path / name, config=SMALL, executor=executor)
        assert report.stored == 2


def test_bad_videos_cost_only_themselves_and_stand_in_the_ledger(videos: Path, store: Path) -> None:
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.avi").write_text("not a video")
    still_mkv(videos / "short.mkv", 1)
    clips.audio_only(videos / "tone.mp4")
    report = run(videos, store)
    reasons = {Path(f.source).name: f.reason for f in report.failures}
    assert reasons == {
        "empty.mp4": "unopenable",
        "text.avi": "unopenable",
        "short.mkv": "too_short",
        "tone.mp4": "no_video_stream",
    }
    lines = [json.loads(line) for line in Path(f"{store}.failures.jsonl").read_text().splitlines()]
    assert {Path(line["source"]).name: line["reason"] for line in lines} == reasons
    with flowkit.open(store) as opened:
        assert len(opened) == 2
        assert {failure.reason for failure in opened.failures} == set(reasons.values())


def test_a_failed_video_that_is_mended_leaves_the_ledger(videos: Path, store: Path) -> None:
    (videos / "late.mkv").write_bytes(b"")
    assert run(videos, store).failures
    still_mkv(videos / "late.mkv", 3)
    report = run(videos, store)
    assert (report.stored, report.already_stored) == (1, 2)
    with flowkit.open(store) as opened:
        assert "late" in opened
        assert not opened.failures


def test_the_same_command_again_does_nothing(videos: Path, store: Path) -> None:
    run(videos, store)
    before = store.read_bytes()
    report = run(videos, store)
    assert (report.stored, report.already_stored) == (0, 2)
    assert store.read_bytes() == before


@pytest.mark.parametrize("done", [1, 2])
def test_a_folder_that_vanishes_in_the_middle_is_said_and_no_store_is_made_in_its_place(
    done: int, videos: Path, tmp_path: Path
) -> None:
    store, away = tmp_path / "work" / "out.h5", tmp_path / "away"

    def vanish(progress: Progress[VideoOutcome]) -> None:
        if progress.outcome is not None and progress.done == done:
            store.parent.rename(away)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # parts that cannot be packed ahead
        with pytest.raises(StoreUnreadableError, match="is gone: it was renamed or removed"):
            run(videos, store, on_progress=vanish)
    assert not store.exists()
    away.rename(store.parent)
    report = run(videos, store)
    assert report.stored + report.already_stored == 2
    assert [path.name for path in store.parent.iterdir()] == ["out.h5"]
    assert flowkit.verify(store).sound


def test_more_videos_are_added_and_the_old_bytes_stay(videos: Path, store: Path) -> None:
    run(videos, store)
    with flowkit.open(store) as opened:
        old = opened["two"].flow()
    still_mkv(videos / "new.mkv", 3)
    assert run(videos, store).stored == 1
    with flowkit.open(store) as opened:
        assert list(opened) == ["drift/one", "new", "two"]
        assert np.array_equal(opened["two"].flow(), old)


def test_changed_options_are_refused_each_by_name(videos: Path, store: Path) -> None:
    run(videos, store)
    other = dataclasses.replace(SMALL, step=2, flow_codec="i16", resize=ResizeRule(short_side=32))
    with pytest.raises(StoreOptionsError, match=r"step: stored 1, asked 2.*flow_codec.*resize|resize.*"):
        extraction.prepare(find_sources([videos]), store, config=other)


def test_a_changed_source_is_reported_and_redone_on_request(videos: Path, store: Path) -> None:
    run(videos, store)
    clips.mjpeg_avi(videos / "two.avi", clips.moving_texture(9, seed=2))
    report = run(videos, store)
    assert [failure.reason for failure in report.failures] == ["source_changed"]
    with flowkit.open(store) as opened:
        assert opened["two"].n_frames == 5
    assert run(videos, store, dataclasses.replace(SMALL, update=True)).stored == 1
    with flowkit.open(store) as opened:
        assert opened["two"].n_frames == 9
        assert len(opened) == 2


def test_a_source_that_was_only_touched_is_not_redone(videos: Path, store: Path) -> None:
    run(videos, store)
    os.utime(videos / "two.avi", (1, 1))
    report = run(videos, store)
    assert (report.stored, report.already_stored, report.failures) == (0, 2, ())


def test_a_worker_that_dies_costs_its_video_and_is_named(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "extract_video", _die_on_two)
    setup = extraction.prepare(find_sources([videos]), store, config=dataclasses.replace(SMALL, jobs=2))
    report = extraction.run(setup)
    (failure,) = report.failures
    assert failure.reason == "worker_died"
    assert "SIGSEGV" in failure.detail
    assert Path(failure.source).name == "two.avi"
    assert report.stored == 1


def _die_on_two(task: VideoTask, process: Worker) -> VideoOutcome:
    if task.source.video_id == "two":
        os.kill(os.getpid(), signal.SIGSEGV)
    return extract_video(task, process)


def test_threads_and_processes_do_not_change_a_bit(videos: Path, store: Path, tmp_path: Path) -> None:
    run(videos, store)
    setup = extraction.prepare(
        find_sources([videos]), tmp_path / "other.h5", config=dataclasses.replace(SMALL, jobs=3)
    )
    with LocalExecutor(3) as executor:
        assert extraction.run(setup, executor=executor).stored == 2
    with flowkit.open(store) as one, flowkit.open(tmp_path / "other.h5") as two:
        for video_id in one:
            assert np.array_equal(one[video_id].flow(), two[video_id].flow())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("a fault of ours"), "internal_error"),
        (MemoryError(), "out_of_memory"),
        (BackendError("the engine broke"), "engine_error"),
    ],
)
def test_a_fault_that_one_video_brings_to_light_costs_only_that(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    real = worker._record

    def faulty(task: VideoTask, *args: object) -> object:
        if task.source.video_id == "two":
            raise error
        return real(task, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "_record", faulty)
    report = run(videos, store)
    (failure,) = report.failures
    assert failure.reason == reason
    assert str(error) in failure.detail
    assert (type(error).__name__ in failure.detail) == (reason == "internal_error")
    assert report.stored == 1


def test_servers_give_the_same_store_as_the_workers(
    videos: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of several GPUs, with the CPU's engine behind the servers."""
    run(videos, store)
    engine = choose_backend("auto").solver.name
    servers = [ServerConfig(backend=engine)] * 2
    monkeypatch.setattr(extraction, "server_configs", lambda _: servers)
    setup = extraction.prepare(
        find_sources([videos]), tmp_path / "other.h5", config=dataclasses.replace(SMALL, jobs=2)
    )
    assert extraction.run(setup).stored == 2
    with flowkit.open(store) as one, flowkit.open(tmp_path / "other.h5") as two:
        for video_id in one:
            assert np.array_equal(one[video_id].flow(), two[video_id].flow())
            assert one[video_id].record == two[video_id].record


def test_gpus_without_the_cuda_backend_are_refused(videos: Path, store: Path) -> None:
    config = dataclasses.replace(SMALL, gpus=(0,), backend="reference")
    with pytest.raises(InvalidParameterError, match="gpus"):
        extraction.prepare(find_sources([videos]), store, config=config)


def test_a_decoder_that_is_not_here_is_refused_before_the_first_video(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flowkit.video.pyav", None)
    with pytest.raises(BackendUnavailableError, match="decoder 'av' needs PyAV"):
        extraction.prepare(find_sources([videos]), store, config=dataclasses.replace(SMALL, decoder="av"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StoreCorruptError("its part"), "store_error"), (OSError(5, "Input/output error"), "io_error")],
)
def test_errors_of_a_part_are_no_internal_ones(
    error: Exception, reason: str, videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: object, worker: object) -> None:
        raise error

    monkeypatch.setattr(extraction, "extract_video", fail)
    with InlineExecutor() as executor:
        report = extraction.extract(find_sources([videos]), store, config=SMALL, executor=executor)
    assert {failure.reason for failure in report.failures} == {reason}
    assert {failure.detail for failure in report.failures} == {str(error)}


def test_fail_fast_stops_and_keeps_what_is_stored(videos: Path, store: Path) -> None:
    (videos / "a_bad.mp4").write_bytes(b"")
    report = run(videos, store, dataclasses.replace(SMALL, fail_fast=True))
    assert [outcome.status for outcome in report.outcomes] == ["failed"]
    assert report.not_tried == 2


def test_a_second_run_on_the_same_store_is_refused(videos: Path, store: Path) -> None:
    with PartsFolder(store).lock(), pytest.raises(StoreBusyError):
        run(videos, store)


def test_an_interrupted_run_keeps_finished_videos_and_goes_on(videos: Path, store: Path) -> None:
    def interrupt(progress: Progress[VideoOutcome]) -> None:
        if progress.outcome is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(videos, store, on_progress=interrupt)
    assert not store.exists()
    assert len(PartsFolder(store).committed_parts()) == 1
    setup = extraction.prepare(find_sources([videos]), store, config=SMALL)
    assert [source.video_id for source in setup.plan.todo] == ["two"]
    assert run(videos, store).stored == 1
    assert not PartsFolder(store).path.exists()


def test_progress_ends_at_the_whole(videos: Path, store: Path) -> None:
    seen: list[Progress[VideoOutcome]] = []
    run(videos, store, on_progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].frames, seen[-1].fraction) == (2, 2, 11, 1.0)


@pytest.mark.data
def test_real_and_odd_files_end_as_their_readme_says(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "videos"
    names = [
        *sorted((folder / "derived").glob("*")),
        folder / "decord" / "corrupted.mp4",
        folder / "misc" / "tree.avi",
    ]
    expected = {
        "zero_bytes": "unopenable",
        "text_not_video": "unopenable",
        "audio_only": "no_video_stream",
        "truncated_half": "unopenable",
        "one_frame": "too_short",
    }
    config = dataclasses.replace(SMALL, resize=ResizeRule(short_side=32), frame_codec="none")
    setup = extraction.prepare(find_sources(names), tmp_path / "out.h5", config=config)
    with InlineExecutor() as executor:
        report = extraction.run(setup, executor=executor)
    assert {Path(f.source).stem: f.reason for f in report.failures} == expected
    with flowkit.open(tmp_path / "out.h5") as opened:
        statuses = {video_id: clip.record.status for video_id, clip in opened.items()}
        truncated = {k for k, status in statuses.items() if status == "truncated"}
        assert truncated == {"corrupted", "truncated_40pct"}
        # Its header counts 444 frame times: the 68 frames are shown for several each, to the last time.
        assert (statuses["tree"], opened["tree"].n_frames) == ("ok", 68)
