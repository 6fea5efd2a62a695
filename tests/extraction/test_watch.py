"""What a run tells while it lasts: the state beside the store, and the events of its log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InputError
from flowkit.extraction import watch
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.status import store_status
from flowkit.extraction.store_run import VideoOutcome
from flowkit.extraction.watch import EventLog, RunWatch
from flowkit.jobs import Progress, TaskAtWork
from flowkit.rawframes.export import export
from flowkit.rawframes.import_config import ImportConfig
from flowkit.rawframes.importer import import_rawframes
from flowkit.store.parts_folder import PartsFolder
from tests.make import clips
from tests.make.small import NATIVE


def events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def named(path: Path, *names: str) -> list[tuple[object, ...]]:
    """Return these facts of each event that has them all, after its name."""
    found = events(path)
    return [(one["event"], *(one[name] for name in names)) for one in found if {*names} <= one.keys()]


def folder_of_videos(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        clips.lossless_mkv(folder / f"{name}.mkv", clips.moving_texture(4, height=32, width=40))
    return folder


def test_the_log_has_a_line_for_the_begin_and_end_of_each_video_and_of_the_run(tmp_path: Path) -> None:
    videos, log = folder_of_videos(tmp_path / "videos", "a", "ü"), tmp_path / "run.jsonl"
    (videos / "bad.mkv").write_bytes(b"no video")
    extract([videos], tmp_path / "out.h5", config=ExtractConfig(resize=NATIVE, jobs=2, log_file=log))
    told = events(log)
    assert (told[0]["event"], told[-2]["event"], told[-1]["event"]) == ("run_started", "packing", "run_ended")
    assert told[0]["to_do"] == 3
    assert told[0]["pid"] == os.getpid()
    assert {"python", "flowkit", "numpy", "h5py", "av"} <= told[0]["versions"].keys()  # type: ignore[attr-defined]
    assert [told[-1][name] for name in ("done", "failed", "left")] == [3, 1, 0]
    ended = {one["video_id"]: one for one in told if one["event"] == "video_ended"}
    assert {name: one["stage"] for name, one in ended.items()} == {
        "a": "stored",
        "ü": "stored",
        "bad": "failed",
    }
    assert ended["bad"]["reason"] == "unopenable"
    assert ended["a"]["n_frames"] == 4
    assert ended["a"]["stages"]["solve"] > 0  # type: ignore[index]
    assert all(str(one["worker"]).startswith("process ") for one in ended.values())
    assert [one["time"] for one in told] == sorted(str(one["time"]) for one in told)
    assert not (tmp_path / "out.h5.parts").exists()


def test_another_run_appends_to_the_log(tmp_path: Path) -> None:
    videos, log = folder_of_videos(tmp_path / "videos", "a"), tmp_path / "run.jsonl"
    config = ExtractConfig(resize=NATIVE, jobs=1, log_file=log)
    extract([videos], tmp_path / "out.h5", config=config)
    extract([videos], tmp_path / "out.h5", config=config)
    assert named(log, "to_do", "already_stored") == [("run_started", 1, 0), ("run_started", 0, 1)]


def test_a_worker_that_dies_is_logged_with_versions_and_the_last_video_of_each(tmp_path: Path) -> None:
    folder, log = tmp_path / "videos", tmp_path / "run.jsonl"
    folder.mkdir()
    texture = clips.moving_texture(4, height=32, width=40)
    for name, frames in (("a", texture), ("b", texture), ("hung", np.full_like(texture, 255))):
        clips.lossless_mkv(folder / f"{name}.mkv", frames)
    hangs = "tests.make.flow_functions:hangs_at_white"
    config = ExtractConfig(resize=NATIVE, jobs=2, method=hangs, video_timeout=2, log_file=log)
    extract([folder], tmp_path / "out.h5", config=config)
    (lost,) = [one for one in events(log) if one["event"] == "worker_lost"]
    assert (lost["video_id"], lost["reason"]) == ("hung", "timed_out")
    assert lost["last_videos"][lost["worker"]] == "hung"  # type: ignore[index]
    assert set(lost["last_videos"].values()) - {"hung"} <= {"a", "b"}  # type: ignore[attr-defined]
    assert "av" in lost["versions"]  # type: ignore[operator]
    assert ("video_started", "hung", lost["worker"]) in named(log, "video_id", "worker")


def test_an_import_is_logged_and_told_too(tmp_path: Path) -> None:
    videos, log = folder_of_videos(tmp_path / "videos", "a"), tmp_path / "run.jsonl"
    extract([videos], tmp_path / "out.h5", config=ExtractConfig(resize=NATIVE, jobs=1))
    export(tmp_path / "out.h5", tmp_path / "frames")
    config = ImportConfig(jobs=1, log_file=log)
    import_rawframes(tmp_path / "frames", tmp_path / "in.h5", config=config)
    assert named(log, "command") == [("run_started", "import")]
    assert named(log, "video_id", "stage") == [("video_ended", "a", "stored")]


def test_a_log_that_cannot_be_written_stops_the_run_before_any_work(tmp_path: Path) -> None:
    videos = folder_of_videos(tmp_path / "videos", "a")
    config = ExtractConfig(resize=NATIVE, jobs=1, log_file=tmp_path / "none" / "log")
    with pytest.raises(InputError, match=r"none/log cannot be written \(No such file or directory\); name"):
        extract([videos], tmp_path / "out.h5", config=config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["videos"]


def test_a_log_that_fails_later_costs_a_warning_alone(tmp_path: Path) -> None:
    log = EventLog(Path("/dev/full"))
    with pytest.warns(RuntimeWarning, match=r"/dev/full cannot be written any more \(No space left"):
        log.write("packing")
    log.write("run_ended")
    log.close()


def progress(
    done: int, *at_work: tuple[str, str], outcome: VideoOutcome | None = None
) -> Progress[VideoOutcome]:
    return Progress(
        done=done,
        total=4,
        failed=0,
        frames=10 * done,
        fraction=done / 4,
        outcome=outcome,
        worker="process 7" if outcome else "",
        at_work=tuple(TaskAtWork(name=name, worker=worker, frames=3) for name, worker in at_work),
    )


def run_watch(tmp_path: Path, *, log: Path | None = None) -> RunWatch:
    parts = PartsFolder(tmp_path / "out.h5")
    parts.path.mkdir(exist_ok=True)
    return RunWatch(parts, "extract", total=4, already_stored=2, log_file=log)


def test_the_state_has_what_each_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STATE_S", 0.0)
    with run_watch(tmp_path, log=tmp_path / "log") as running:
        running.note(progress(1, ("b", "process 8"), ("c", "")))
        status = store_status(tmp_path / "out.h5")
        assert status.run is not None
        assert [(one.video_id, one.worker, one.frames) for one in status.run.at_work] == [
            ("b", "process 8", 3),
            ("c", "", 3),
        ]
        since = status.run.at_work[0].since
        running.note(progress(1, ("b", "process 8"), ("c", "process 7")))
        again = store_status(tmp_path / "out.h5").run
        assert again is not None
        assert again.at_work[0].since == since
        assert (again.done, again.total, again.already_stored, again.frames) == (1, 4, 2, 10)
    assert named(tmp_path / "log", "video_id", "worker") == [
        ("video_started", "b", "process 8"),
        ("video_started", "c", "process 7"),
    ]
    assert not PartsFolder(tmp_path / "out.h5").state_path.exists()


@pytest.mark.parametrize(
    ("error", "stage", "event"),
    [(KeyboardInterrupt(), "interrupted", "run_interrupted"), (OSError("gone"), "failed", "run_failed")],
)
def test_a_run_that_ends_early_leaves_its_state_where_there_is_something_to_go_on_with(
    tmp_path: Path, error: BaseException, stage: str, event: str
) -> None:
    parts = PartsFolder(tmp_path / "out.h5")
    for has_part in (True, False):
        running = run_watch(tmp_path, log=tmp_path / "log").__enter__()
        running.note(progress(1, ("b", "process 8")))
        if has_part:
            parts.part_path("a").write_bytes(b"")
        running.__exit__(type(error), error, None)
        state = store_status(tmp_path / "out.h5").run
        assert (state.stage if state else None) == (stage if has_part else None)
        assert [one[0] for one in named(tmp_path / "log", "left")][-1] == event
        parts.part_path("a").unlink(missing_ok=True)
