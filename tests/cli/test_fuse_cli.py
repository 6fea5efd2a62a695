"""`flowkit fuse` from files to a table and a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from flowkit_cli import group
from gating.fusions import FUSIONS

CLIPS = 24


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two streams of scores, labels and groups."""
    monkeypatch.chdir(tmp_path)
    few = {name: FUSIONS[name] for name in ("rgb", "flow", "average", "search", "oracle")}
    monkeypatch.setattr("gating.fusing.trial.FUSIONS", few)
    rng = np.random.default_rng(0)
    ids = np.array([f"clips/c{k:02d}" for k in range(CLIPS)])
    labels = np.arange(CLIPS) % 2
    for name in ("video", "audio"):
        scores = rng.normal(0, 1, (CLIPS, 2))
        scores[np.arange(CLIPS), labels] += 1
        np.savez(f"{name}.npz", ids=ids, scores=scores, classes=np.array(["no", "yes"]))
    lines = [
        f"{one}.mp4,{('no', 'yes')[label]},s{k // 4}"
        for k, (one, label) in enumerate(zip(ids, labels, strict=True))
    ]
    Path("labels.csv").write_text("path,label,source\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_files_become_a_table_and_a_page(folder: Path) -> None:
    grouped = ["--groups", "labels.csv", "--group-column", "source", "--leave-one-out"]
    done = CliRunner().invoke(group, ["fuse", "video.npz", "audio.npz", "--labels", "labels.csv", *grouped])
    assert done.exit_code == 0, done.output
    assert "rgb (video)" in done.stdout
    assert "flow (audio)" in done.stdout
    assert "trials 6, tested parts 6, seeds 1" in done.stdout
    assert "no gate: it reads maps or features" in done.stderr
    assert (folder / "runs/fuse-video-audio/results.json").is_file()
    page = CliRunner().invoke(group, ["report", "runs/fuse-video-audio"])
    assert page.exit_code == 0, page.output
    text = (folder / "runs/fuse-video-audio/report.html").read_text()
    assert "rgb is video" in text
    assert "flow is audio" in text
