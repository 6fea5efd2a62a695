from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from flowkit.extraction.run import ExtractReport
from flowkit.extraction.store_run import VideoOutcome
from flowkit_cli.extract import command as extract_command
from flowkit_cli.extract_report import Reporter


def extract(*words: object) -> Result:
    runner = CliRunner()
    command: click.Command = extract_command
    return runner.invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_each_stage_and_what_limits_stand_in_json_and_at_the_end(videos: Path, store: Path) -> None:
    done = extract(videos, store, "--json", "--native", "--jobs", 1, "--preset", "fast")
    assert done.exit_code == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        # An engine of the CPU copies nothing: those stages are absent, not zero.
        assert list(line["stage_rates"]) == ["decode", "resize", "jpeg", "solve", "encode", "write"]
        for stage, rate in line["stage_rates"].items():
            assert rate == pytest.approx(line["n_frames"] / line["stages"][stage])
        assert line["limits"] == min(line["stage_rates"], key=line["stage_rates"].get)
    (last,) = [line for line in done.stderr.splitlines() if "per second of work" in line]
    assert ", solve " in last
    assert last.endswith(" limits")


def test_a_video_that_failed_has_no_rates(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    done = extract(tmp_path / "empty.mp4", store, "--json", "--jobs", 1)
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert line["status"] == "failed"
    assert "stage_rates" not in line


def test_the_summary_names_the_stages_of_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"decode": 1.0, "upload": 0.5, "solve": 4.0, "download": 0.25, "encode": 2.0}
    outcome = VideoOutcome(video_id="a", source="a.avi", status="stored", n_frames=100, stages=stages)
    report = ExtractReport(outcomes=(outcome,), already_stored=0, not_tried=0, stages=stages)
    Reporter(Path("x.h5"), dry_run=False, as_json=False, quiet=True).summary(report)
    assert (
        "decode 100, upload 200, solve 25, download 400, encode 50; solve limits" in capsys.readouterr().err
    )
