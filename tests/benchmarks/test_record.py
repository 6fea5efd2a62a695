"""Circumstances of a result where there is no repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record


def test_a_copy_without_git_has_circumstances_and_the_commit_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("FLOWKIT_COMMIT", "abc")
    made = record.circumstances()
    assert (made["commit"], made["uncommitted"]) == ("abc", ["unknown"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.circumstances()["commit"] == "abc"
