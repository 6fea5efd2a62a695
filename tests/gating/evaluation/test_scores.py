"""Scores as files: what goes in comes out, and damage is an error."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gating.errors import ScoresError
from gating.evaluation.scores import ClipScores, load_scores
from tests.make.scores import made_scores

IDS = ("a/1", "b/2", "<c>&'\"/3", "d/\u00e4")


@pytest.fixture
def scores() -> ClipScores:
    return made_scores(IDS, ("up", "down"))


def assert_equal(one: ClipScores, other: ClipScores) -> None:
    for field in dataclasses.fields(ClipScores):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        else:
            assert a == b


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_what_is_saved_is_loaded(tmp_path: Path, features: bool, gate: bool) -> None:
    scores = made_scores(IDS, ("up", "down"), features=features, gate=gate)
    scores.save(tmp_path / "new" / "test.npz")
    assert_equal(load_scores(tmp_path / "new" / "test.npz"), scores)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["test.npz"]


def test_saving_replaces(tmp_path: Path, scores: ClipScores) -> None:
    path = tmp_path / "test.npz"
    made_scores(IDS, ("left", "right"), seed=5).save(path)
    scores.save(path)
    assert_equal(load_scores(path), scores)


def test_every_damage_is_a_scores_error(tmp_path: Path, scores: ClipScores) -> None:
    """A byte changed anywhere, or a file that ends anywhere, gives the scores or the one error."""
    path = tmp_path / "test.npz"
    scores.save(path)
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        for damaged in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                load_scores(path)
            except ScoresError:
                refused += 1
    # All that end early are refused, and most changes too: every array has a checksum.
    assert refused > len(whole) / 7 * 1.5


@pytest.mark.parametrize("name", ["absent.npz", "array.npz", "text.npz", "foreign.npz"])
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "array.npz":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif name == "text.npz":
        path.write_text("scores")
    elif name == "foreign.npz":
        np.savez(path, head=json.dumps({"format": "flowkit-scores 99"}))
    with pytest.raises(ScoresError, match=name):
        load_scores(path)


@pytest.mark.parametrize(
    "change",
    [
        {"groups": ("a",)},
        {"labels": np.array([0, 1, 0, 2])},
        {"labels": np.array([0, -2, 0, 1])},
        {"flow": np.zeros((4, 3))},
        {"gates": np.zeros((3, 2))},
    ],
)
def test_arrays_of_other_clips_or_classes_are_refused(scores: ClipScores, change: dict[str, object]) -> None:
    with pytest.raises(ScoresError):
        dataclasses.replace(scores, **change)  # type: ignore[arg-type]
