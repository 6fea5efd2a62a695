"""`flowkit report` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from flowkit_cli.report import command
from gating.errors import ScoresError
from tests.make.scores import made_comparison, write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    trial = made_comparison([f"clip{k}" for k in range(12)], ("up", "down"))
    write_run(tmp_path / "runs" / "one", [trial])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_newest_run_is_reported_and_its_page_named(folder: Path) -> None:
    done = CliRunner().invoke(command, [], catch_exceptions=False)
    assert done.output == "runs/one/report.html\n"
    assert (folder / done.output.strip()).read_text().startswith("<!doctype html>")


def test_run_and_page_can_be_named(folder: Path) -> None:
    done = CliRunner().invoke(
        command, ["runs/one", "-o", "page.html", "--clips", "1"], catch_exceptions=False
    )
    assert done.output == "page.html\n"
    assert (folder / "page.html").read_text().count("<article") == 2  # one of each section


def test_a_folder_without_a_run_says_so(folder: Path) -> None:
    with pytest.raises(ScoresError, match="no finished trial"):
        CliRunner().invoke(command, ["."], catch_exceptions=False)
