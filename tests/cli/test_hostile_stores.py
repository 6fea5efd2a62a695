"""Stores of impossible sizes and of endless labels: each command ends in short lines, in little memory."""

from __future__ import annotations

import resource
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowkit.errors import FlowkitError
from flowkit_cli import compare, export, info, view
from tests.make import stores

MEMORY_KIB = 300_000
"""By which a command may grow this process; a field of 65,535 x 65,535 px takes 8 GB."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    videos = {name: stores.noise(3, k) for k, name in enumerate(("a/x", "a/y", "b/x"))}
    return stores.write_store(tmp_path / "s.h5", videos, frames=False)


def other(store: Path) -> Path:
    videos = {name: stores.noise(3, k) for k, name in enumerate(("a/x", "a/y", "b/x"))}
    return stores.write_store(store.with_name("other.h5"), videos, frames=False)


def said(command: click.Command, *words: object) -> str:
    """Run a command in little memory and return its short words, or those of the error that `main` shows."""
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = CliRunner().invoke(command, [str(word) for word in words])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < MEMORY_KIB
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, FlowkitError), done.exc_info
        text = str(done.exception)
        assert "\n" not in text
    else:
        text = done.output
    assert len(text) < 3000
    return text


@pytest.mark.parametrize("stored", [False, True], ids=["claimed", "stored"])
def test_a_video_too_large_to_decode_costs_itself_in_every_command(store: Path, stored: bool) -> None:
    if stored:
        stores.enlarge(store, "a/x", 65_535, 2100)
        size = "65535x2100"
    else:
        stores.claim_size(store, "a/x", 65_535, 65_535)
        size = "65535x65535"
    refused = f"'a/x' is {size} px; fields and frames of more than 134217728 px are not decoded"
    assert refused in said(view.command, store, "a/x")
    assert refused in said(view.command, store, "a/x", "-o", "film.gif")
    assert said(view.command, store, "--html") == "s.h5.html\n"
    assert size in Path("s.h5.html").read_text()
    assert "a/x" in said(compare.command, store, other(store))
    assert "a/x" in said(export.command, store, "out", "--layout", "flo", "--content", "flow", "-j", "1")
    assert len(list(Path("out").rglob("*.flo"))) == 2 * 3
    assert "3 videos" in said(info.command, store)


def test_a_strip_of_a_video_far_higher_than_wide_is_refused(store: Path) -> None:
    stores.enlarge(store, "a/x", 1, 65_535)
    for words in ((), ("-o", "film.gif")):
        text = said(view.command, store, "a/x", *words)
        assert "px, expected at most 134217728 px: take a smaller --width" in text
    assert list(store.parent.glob("*.png")) == []


def test_a_strip_takes_one_large_field_at_a_time(store: Path) -> None:
    stores.enlarge(store, "a/x", 4096, 2048)  # 64 MiB as float32
    assert "a_x.png" in said(view.command, store, "a/x", "--max-px", "4")


def test_two_million_labels_are_a_number_and_the_first_of_the_videos(store: Path) -> None:
    stores.add_labels(store, 2_000_000)
    assert "labels (2000000) a 2, b 1" in said(info.command, store)


def test_labels_and_failures_beyond_a_thousand_are_a_number(store: Path) -> None:
    counts = {f"{k:07}": 1 for k in range(2_000_000)}
    line = info._counted("labels", counts)
    assert line.endswith("0000999 1, and 1999000 more; --json has all")
    assert len(line) < 20_000
    assert len(info._counted("labels", {"y" * 1_000_000: 1})) < 400
    lines = list(info._first(range(2_000_000), str))
    assert lines[-2:] == ["999", "    and 1999000 more; --json has all"]
    assert list(info._first(range(3), str)) == ["0", "1", "2"]
