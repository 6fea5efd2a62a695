"""A whole run: its folder, its table, and each way of getting the gate's data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


import gating.events
from flowkit.datasets import read_split
from flowkit.errors import InvalidParameterError
from flowkit.store.read.store import Store
from gating.config import LoaderConfig
from gating.evaluation.results import RunResults, read_comparisons
from gating.evaluation.scores import load_scores
from gating.events import Event
from gating.fusions import FUSIONS
from gating.run import RunOptions, plan, train
from gating.run_folder import scores_path, trial_folder
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


def test_splits_are_kept_beside_the_store(
    labelled_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import flowkit

    monkeypatch.undo()
    copy = tmp_path / "clips.h5"
    shutil.copy(labelled_path, copy)
    with flowkit.open(copy) as store:
        run(store, tmp_path / "out", quick(fusion="average"))
        assert read_split(copy, "5-fold").parts == five_folds(store).parts


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
