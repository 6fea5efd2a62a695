from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from flowkit import jpeg
from flowkit.extraction.run import ExtractReport
from flowkit.extraction.store_run import VideoOutcome
from flowkit.jobs import Progress
from flowkit.rawframes.export import ExportReport
from flowkit.rawframes.export_worker import ExportOutcome
from flowkit_cli.extract import command as extract_command
from flowkit_cli.import_ import command as import_command
from flowkit_cli.reporter import Reporter


def extract(*words: object) -> Result:
    runner = CliRunner()
    command: click.Command = extract_command
    return runner.invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_each_stage_and_the_limiting_one_are_in_json_and_at_the_end(videos: Path, store: Path) -> None:
    done = extract(videos, store, "--json", "--native", "--jobs", 1, "--preset", "fast")
    assert done.exit_code == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        # An engine of the CPU copies nothing: those stages are absent, not zero.
        assert list(line["stage_rates"]) == ["decode", "resize", "jpeg", "solve", "encode", "write"]
        for stage, fps in line["stage_rates"].items():
            assert fps == pytest.approx(line["n_frames"] / line["stages"][stage])
        assert line["limits"] == min(line["stage_rates"], key=line["stage_rates"].get)
    (last,) = [line for line in done.stderr.splitlines() if "per second of work" in line]
    assert ", solve " in last
    assert last.endswith(" limits")


def test_a_video_that_failed_has_no_stage_speeds(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    done = extract(tmp_path / "empty.mp4", store, "--json", "--jobs", 1)
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert line["status"] == "failed"
    assert "stage_rates" not in line


def test_the_summary_names_the_stages_of_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"decode": 1.0, "upload": 0.5, "solve": 4.0, "download": 0.25, "encode": 2.0}
    outcome = VideoOutcome(video_id="a", source="a.avi", status="stored", n_frames=100, stages=stages)
    report = ExtractReport(outcomes=(outcome,), already_stored=0, not_tried=0, stages=stages)
    Reporter(as_json=False, quiet=True).store_summary(Path("x.h5"), report)
    assert (
        "decode 100, upload 200, solve 25, download 400, encode 50; solve limits" in capsys.readouterr().err
    )
    phases = {"start": 9.0, "videos": 8.0, "pack": 0.5}
    report = dataclasses.replace(report, phases=phases)
    Reporter(as_json=False, quiet=True).store_summary(Path("x.h5"), report)
    words = capsys.readouterr().err
    assert "; start limits" in words
    assert "seconds: start 9.0, videos 8.0, pack 0.5" in words


def rawframes(folder: Path, *, n_frames: int = 3) -> None:
    """Write a clip's folder of layout tsn."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(1, n_frames + 1):
        (folder / f"img_{k:05d}.jpg").write_bytes(jpeg.encode(np.full((16, 24, 3), 40 * k, np.uint8), 95))
    for k in range(1, n_frames):
        for axis in "xy":
            plane = np.full((16, 24), 100 + k, np.uint8)
            (folder / f"flow_{axis}_{k:05d}.jpg").write_bytes(jpeg.encode_grey(plane, 95))


def import_(*words: object) -> Result:
    return CliRunner().invoke(import_command, [str(word) for word in words], catch_exceptions=False)


def test_a_changed_folder_is_reported_as_a_changed_video_is(tmp_path: Path, store: Path) -> None:
    rawframes(tmp_path / "in/walk/a")
    assert import_(tmp_path / "in", store, "--layout", "tsn", "-j", 1).exit_code == 0
    rawframes(tmp_path / "in/walk/a", n_frames=4)
    done = import_(tmp_path / "in", store, "--layout", "tsn", "-j", 1, "--json")
    assert done.exit_code == 1
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (line["video_id"], line["failure"]["reason"]) == ("walk/a", "source_changed")
    assert f"FAILED {tmp_path}/in/walk/a: source_changed: " in done.stderr
    assert "0 stored, 1 failed" in done.stderr


def test_every_failure_is_reported_once(tmp_path: Path, store: Path) -> None:
    rawframes(tmp_path / "in/walk/a")
    (tmp_path / "in/walk/a/img_00002.jpg").unlink()
    (tmp_path / "in/empty").mkdir()
    done = import_(tmp_path / "in", store, "--layout", "tsn", "-j", 1)
    assert done.stderr.count("FAILED") == 2
    assert f"FAILED {tmp_path}/in/empty: empty_folder: the folder is empty" in done.stderr


def test_clipped_flow_of_an_export_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = ExportOutcome(name="a", video_ids=("a",), status="exported", n_frames=3, clipped=5, values=100)
    reporter = Reporter(as_json=False, quiet=True)
    with reporter.running("done", kept="nothing"):
        reporter.progress(Progress(done=1, total=1, failed=0, frames=3, fraction=1.0, outcome=outcome))
    reporter.export_summary(Path("out"), ExportReport(outcomes=(outcome,), not_tried=0, notes=("a note",)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a: 5.0% of the flow is beyond the bound"
    assert lines[1].startswith("out: 1 exported; 3 frames in ")
    assert lines[2:] == ["5.000% of the flow was clipped to the bound", "a note"]


def test_an_interruption_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(as_json=False, quiet=True)
    with pytest.raises(KeyboardInterrupt), reporter.running("videos", kept="finished videos are kept"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "interrupted: finished videos are kept; the same command again goes on from there\n"
    )
