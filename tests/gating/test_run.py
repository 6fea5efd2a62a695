"""A whole run: its folder, its table, and each way of getting the gate's data."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


import flowkit
import gating.events
from flowkit.datasets import Split, read_split, write_split
from flowkit.datasets.splits import parse_split
from flowkit.errors import InvalidParameterError
from flowkit.store.read.store import Store
from gating.config import LoaderConfig
from gating.evaluation.results import RunResults, read_comparisons
from gating.evaluation.scores import load_scores
from gating.events import Event
from gating.fusions import FUSIONS
from gating.run import RunOptions, plan, train
from gating.run_folder import scores_path, split_path, trial_folder
from gating.train_config import TrainConfig
from tests.make.labelled import five_folds, quick


def run(store: Store, out: Path, config: TrainConfig, **options: Any) -> tuple[RunResults, list[Event]]:
    events: list[Event] = []
    given = RunOptions(out=out, folds=("0",), loader=LoaderConfig(), on_event=events.append, **options)
    results = train(store, [five_folds(store)], config, given)
    assert results is not None
    return results, events


@pytest.fixture(autouse=True)
def splits_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is shared by all tests: no test leaves a split beside it."""
    monkeypatch.setattr("gating.run.write_split", lambda path, split: None)


def test_a_run_compares_every_fusion_and_leaves_its_folder(labelled_store: Store, tmp_path: Path) -> None:
    results, events = run(labelled_store, tmp_path, quick(gate_data="holdout"), seeds=(0, 1))
    assert set(results.fusions) == {*FUSIONS, "gating"}
    assert results.fusions["oracle"].top1 >= results.fusions["rgb"].top1
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results.to_json()))
    assert [trial.seed for trial in results.trials] == [0, 1]
    folder = trial_folder(tmp_path, "5-fold", "0", 1)
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {event["event"] for event in logged} >= {"trial", "step", "epoch", "finished", "judged"}
    assert {event["event"] for event in logged} <= set(re.findall(r"\w+", gating.events.__doc__ or ""))
    assert [comparison.seed for comparison in read_comparisons(tmp_path)] == [0, 1]
    test, fit = (load_scores(scores_path(folder, part)) for part in ("test", "fit"))
    assert test.gates is not None
    assert set(test.ids).isdisjoint(fit.ids)
    assert fit.flow_features is not None
    # The same again trains nothing and compares alike.
    again, events = run(labelled_store, tmp_path, quick(gate_data="holdout"), seeds=(0, 1))
    assert {event["event"] for event in events} == {"trial", "skipped", "judged"}
    assert again.to_json()["fusions"] == results.to_json()["fusions"]


def test_without_a_gate_the_other_fusions_are_compared(labelled_store: Store, tmp_path: Path) -> None:
    results, events = run(labelled_store, tmp_path, quick(fusion="search"))
    assert set(results.fusions) == {*FUSIONS} - {"gating"}
    assert [event["stage"] for event in events if event["event"] == "finished"] == ["rgb", "flow"]
    assert results.gains == ()


@pytest.fixture
def own_store(
    labelled_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits_elsewhere: None
) -> Iterator[Store]:
    """A copy of the store, beside which splits are really written."""
    monkeypatch.undo()
    copy = tmp_path / "clips.h5"
    shutil.copy(labelled_path, copy)
    with flowkit.open(copy) as store:
        yield store


def notes(events: list[Event]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "note"]


def test_splits_are_kept_in_the_trial_and_beside_the_store(own_store: Store, tmp_path: Path) -> None:
    _, events = run(own_store, tmp_path / "out", quick(fusion="average"))
    split = five_folds(own_store)
    assert read_split(own_store.path, "5-fold") == split
    assert parse_split(split_path(trial_folder(tmp_path / "out", "5-fold", "0", 0)), "5-fold") == split
    assert notes(events) == []


def another(split: Split) -> Split:
    """The same folds under each other's numbers."""
    moved = {k: {"0": "1", "1": "0"}.get(fold, fold) for k, fold in split.parts.items()}
    return dataclasses.replace(split, parts=moved)


def test_another_split_beside_the_store_is_left_as_it_is(own_store: Store, tmp_path: Path) -> None:
    split = five_folds(own_store)
    path = write_split(own_store.path, another(split))
    before = path.read_bytes()
    _, events = run(own_store, tmp_path / "out", quick(fusion="average"))
    assert path.read_bytes() == before
    assert [f"{path} is another split" in text for text in notes(events)] == [True]
    assert parse_split(split_path(trial_folder(tmp_path / "out", "5-fold", "0", 0)), "5-fold") == split


def test_a_file_made_by_hand_is_left_as_it_is(own_store: Store, tmp_path: Path) -> None:
    """The same split spelt otherwise gives no note, a file that is none does."""
    split = five_folds(own_store)
    path = write_split(own_store.path, split)
    rows = [f"{k}.avi,{split.parts[k]},{split.groups[k]}\n" for k in split.parts]
    path.write_text("id,fold,group\n" + "".join(reversed(rows)))
    before = path.read_bytes()
    _, events = run(own_store, tmp_path / "out", quick(fusion="average"))
    assert (path.read_bytes(), notes(events)) == (before, [])
    path.write_text("my notes\n")
    _, events = run(own_store, tmp_path / "out", quick(fusion="average"))
    assert path.read_text() == "my notes\n"
    assert [f"{path} left as it is" in text for text in notes(events)] == [True]


def test_a_store_in_a_folder_that_cannot_be_written_is_trained_on(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, split: Split) -> Path:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("gating.run.write_split", refuse)
    _, events = run(own_store, tmp_path / "out", quick(fusion="average"))
    assert ["in the run alone" in text and "Permission denied" in text for text in notes(events)] == [True]


def test_a_plan_shows_settings_that_are_often_wrong(labelled_store: Store, tmp_path: Path) -> None:
    options = RunOptions(
        out=tmp_path / "none", folds=("2",), loader=LoaderConfig(), on_event=lambda event: None
    )
    (event,) = plan(labelled_store, [five_folds(labelled_store)], quick(), options)
    lines = "\n".join(event["lines"])
    for words in ("preset opencv-cuda", "codec i8", "+-4 px", "effective batch 4 clips", "5 groups", "disc-"):
        assert words in lines
    assert not (tmp_path / "none").exists()


def test_an_unknown_fold_is_named(labelled_store: Store, tmp_path: Path) -> None:
    options = RunOptions(out=tmp_path, folds=("7",), loader=LoaderConfig(), on_event=lambda event: None)
    with pytest.raises(InvalidParameterError, match=r"\['7'\]"):
        train(labelled_store, [five_folds(labelled_store)], quick(), options)
