"""Fusions of made streams whose answers are known, the run's folder, and what is absent and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.datasets import Split, SplitRequest
from flowkit.errors import InputError, InvalidParameterError
from gating.errors import CheckpointError
from gating.events import Event, OnEvent, ignore
from gating.fusing import trial
from gating.fusing.inputs import StreamArrays
from gating.fusing.results import FuseResults
from gating.fusing.run import FuseOptions, fuse
from gating.fusing.trial import FuseConfig
from gating.fusions import FUSIONS
from gating.report import write_report
from gating.run_folder import find_trials

CLIPS, CLASSES = 160, 4
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, CLASSES, CLIPS)
IDS = tuple(f"c{k:03d}" for k in range(CLIPS))
NAMES = tuple(f"k{k}" for k in range(CLASSES))
GIVEN = {video_id: NAMES[label] for video_id, label in zip(IDS, LABELS, strict=True)}
FEW = ("rgb", "flow", "average", "search", "score-gate", "features", "oracle", "gating")


def scores_of(right: np.ndarray, *, sure: np.ndarray | float = 2.0) -> np.ndarray:
    """Scores that show the label where the stream is right, and another class elsewhere."""
    shown = np.where(right, LABELS, (LABELS + RNG.integers(1, CLASSES, CLIPS)) % CLASSES)
    scores = RNG.normal(0, 0.3, (CLIPS, CLASSES))
    scores[np.arange(CLIPS), shown] += sure
    return scores


def stream(
    name: str, scores: np.ndarray, cue: np.ndarray | None = None, *, as_scores: bool = False
) -> StreamArrays:
    if as_scores:
        maps = None if cue is None else cue[:, None, None, None] * np.ones((CLIPS, 3, 2, 2))
        return StreamArrays(name=name, ids=IDS, scores=scores, classes=NAMES, maps=maps)
    columns = scores if cue is None else np.concatenate([scores, 2 * cue[:, None]], axis=1)
    return StreamArrays(name=name, ids=IDS, features=columns)


def run(
    out: Path,
    a: StreamArrays,
    b: StreamArrays,
    *,
    seeds: tuple[int, ...] = (0,),
    on_event: OnEvent = ignore,
) -> FuseResults:
    options = FuseOptions(out=out, device="cpu", seeds=seeds, on_event=on_event)
    config = FuseConfig(stream_folds=2)
    return fuse(a, b, GIVEN, splits=SplitRequest(folds=2), config=config, options=options)


@pytest.fixture(autouse=True)
def few_fusions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fusions with an answer here, and heads of one strength: all of them take seconds."""
    monkeypatch.setattr(trial, "FUSIONS", {name: FUSIONS[name] for name in FEW})
    monkeypatch.setattr("gating.frozen.heads.PENALTIES", (1e-3,))


def top1(results: FuseResults) -> Mapping[str, float]:
    return {name: row.top1 for name, row in results.fusions.items()}


def test_a_cue_in_the_maps_is_what_the_gate_gains_by(tmp_path: Path) -> None:
    """Each stream is right on its half of the clips; both are as sure, and a map shows the half."""
    half = np.arange(CLIPS) % 2 == 0
    cue = np.where(half, 1.0, -1.0)
    a, b = (stream(name, scores_of(own), cue, as_scores=True) for name, own in (("a", half), ("b", ~half)))
    found = top1(run(tmp_path, a, b))
    assert found["rgb"] == found["flow"] == 0.5
    assert found["gating"] > found["search"] + 0.2
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["fusions"]["gating"]["top1"] == found["gating"]
    assert content["data"]["streams"] == {"rgb": "a", "flow": "b"}
    assert content["data"]["gate"] == "the gate reads the maps of both, 3 x 2 x 2"
    assert write_report(tmp_path).stat().st_size > 10_000
    with pytest.raises(CheckpointError, match="has results and no networks"):
        find_trials(tmp_path)


def test_scores_alone_have_a_score_gate_and_no_gate_on_images(tmp_path: Path) -> None:
    """A stream is sure where it is right."""
    half = np.arange(CLIPS) % 2 == 0
    events: list[Event] = []
    a, b = (
        stream(name, scores_of(own, sure=np.where(own, 2.0, 1.0)), as_scores=True)
        for name, own in (("a", half), ("b", ~half))
    )
    results = run(tmp_path, a, b, on_event=events.append)
    assert top1(results)["score-gate"] > 0.9
    assert {"gating", "features"}.isdisjoint(results.fusions)
    assert results.data.gate == "no gate: it reads maps or features, and of a and b there are scores alone"
    assert not [one for one in events if one["event"] == "fitted"]


def test_two_equal_streams_gain_nothing(tmp_path: Path) -> None:
    one = scores_of(RNG.random(CLIPS) < 0.7)
    found = top1(run(tmp_path, stream("a", one), stream("b", one)))
    assert found["rgb"] == found["flow"] == found["oracle"]
    assert abs(found["gating"] - found["rgb"]) <= 0.02
    assert found["search"] == found["rgb"]


def test_streams_of_one_name_are_told_apart(tmp_path: Path) -> None:
    right = RNG.random(CLIPS) < 0.9
    results = run(tmp_path, *(stream("feats", scores_of(right), as_scores=True) for _ in range(2)))
    assert dict(results.data.streams) == {"rgb": "feats (A)", "flow": "feats (B)"}


def test_a_stream_of_features_joins_one_of_scores(tmp_path: Path) -> None:
    right = RNG.random(CLIPS) < 0.9
    results = run(tmp_path, stream("a", scores_of(right)), stream("b", scores_of(right), as_scores=True))
    assert top1(results)["flow"] == right.mean()
    assert top1(results)["rgb"] > 0.8
    assert "features" not in results.fusions


def test_a_folder_with_other_trials_is_left_alone(tmp_path: Path) -> None:
    a, b = (
        stream("a", scores_of(RNG.random(CLIPS) < 0.7), as_scores=True),
        stream("b", scores_of(RNG.random(CLIPS) < 0.7), as_scores=True),
    )
    first = run(tmp_path, a, b)
    assert top1(run(tmp_path, a, b)) == top1(first)
    with pytest.raises(InvalidParameterError, match="with 2-fold-0/seed0 of another run"):
        run(tmp_path, a, b, seeds=(1,))


def test_a_class_that_no_head_would_see_is_named(tmp_path: Path) -> None:
    one = stream("a", scores_of(RNG.random(CLIPS) < 0.7))
    parts = {video_id: "test" if k < 3 else "train" for k, video_id in enumerate(IDS)}
    rare = {video_id: "rare" if k in (0, 5) else GIVEN[video_id] for k, video_id in enumerate(IDS)}
    with pytest.raises(InputError, match=r"1 classes have no clip to fit a head on.*\['rare'\]"):
        fuse(
            one,
            one,
            rare,
            splits=[Split(name="s", kind="subset", parts=parts)],
            options=FuseOptions(out=tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()
