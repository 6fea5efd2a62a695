"""A finished run scored anew: equal where nothing was changed, and refused where data are others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")


import flowkit
from flowkit.datasets import Split, read_split, write_split
from flowkit.errors import InputError, InvalidParameterError
from gating import rescoring
from gating.config import LoaderConfig
from gating.errors import CheckpointError
from gating.evaluation.results import RunResults
from gating.evaluation.scores import ClipScores, load_scores
from gating.rescoring import EvalOptions, evaluate
from gating.run_folder import (
    BEST,
    DataRecord,
    find_trials,
    read_trial,
    recorded_store,
    scores_path,
    split_path,
)
from gating.training.checkpoint import load_checkpoint, save_checkpoint
from tests.make.finished_runs import FinishedRun, train_run

PARTS = ("test", "validation", "fit")


@pytest.fixture(scope="module")
def trained(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return train_run(labelled_path, tmp_path_factory.mktemp("evaluated"), folds=("0", "1"))


@pytest.fixture
def run(trained: FinishedRun, tmp_path: Path) -> FinishedRun:
    """A copy that a test may change."""
    shutil.copytree(trained.store.parent, tmp_path / "copy")
    return FinishedRun(
        out=tmp_path / "copy" / "run", store=tmp_path / "copy" / "clips.h5", videos=trained.videos
    )


def options(**changes: Any) -> EvalOptions:
    plain = EvalOptions(segments=2, device="cpu", loader=LoaderConfig(), on_event=lambda event: None)
    return dataclasses.replace(plain, **changes)


def evaluated(run: FinishedRun, **changes: Any) -> RunResults:
    with flowkit.open(run.store) as store:
        results = evaluate(run.out, store, options(**changes))
    assert results is not None
    return results


def arrays(scores: ClipScores) -> dict[str, np.ndarray]:
    names = ("labels", "flow", "rgb", "flow_features", "rgb_features", "gates", "gated")
    return {name: getattr(scores, name) for name in names if getattr(scores, name) is not None}


def test_the_segments_and_crops_of_training_give_its_scores_and_results(
    run: FinishedRun, tmp_path: Path
) -> None:
    before = json.loads((run.out / "results.json").read_text())
    evaluated(run, scores=tmp_path / "scores")
    for trial in ("5-fold-0/seed0", "5-fold-1/seed0"):
        for part in PARTS:
            ours = load_scores(scores_path(tmp_path / "scores" / trial, part))
            own = load_scores(scores_path(run.out / trial, part))
            assert ours.ids == own.ids
            assert arrays(ours).keys() == arrays(own).keys()
            for name, value in arrays(own).items():
                np.testing.assert_array_equal(arrays(ours)[name], value, err_msg=f"{trial} {part} {name}")
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    for values in (before, results):
        del values["created"], values["data"]["store"]
    assert results == before


def test_more_segments_replace_the_runs_scores_and_results(run: FinishedRun) -> None:
    own = load_scores(scores_path(run.trial, "test"))
    results = evaluated(run, segments=4, crops=5)
    now = load_scores(scores_path(run.trial, "test"))
    assert (now.segments, now.crops) == (4, 5)
    assert not np.array_equal(now.rgb, own.rgb)
    assert json.loads((run.out / "results.json").read_text()) == results.to_json()
    assert (results.config.test_segments, results.config.test_crops) == (4, 5)
    # What the networks were trained with is not rewritten.
    assert read_trial(run.trial).config.test_segments == 2


def test_scores_elsewhere_leave_the_run_alone(run: FinishedRun, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()}
    evaluated(run, segments=3, scores=tmp_path / "elsewhere")
    assert {path: path.read_bytes() for path in run.out.rglob("*") if path.is_file()} == before
    assert load_scores(scores_path(tmp_path / "elsewhere/5-fold-0/seed0", "fit")).segments == 3


def test_unfinished_trials_are_left_out_and_reported(run: FinishedRun) -> None:
    path = run.out / "5-fold-1/seed0/gate" / BEST
    save_checkpoint(path, {**load_checkpoint(path), "finished": False})
    shutil.rmtree(run.out / "5-fold-1/seed0/scores")
    (run.out / "5-fold-1/seed0/judgement.json").unlink()
    events: list[dict[str, Any]] = []
    results = evaluated(run, on_event=events.append)
    assert [one.part for one in results.trials] == ["0"]
    assert [(one["part"], one["stages"]) for one in events if one["event"] == "unfinished"] == [
        ("1", ["gate"])
    ]


def test_a_run_without_a_finished_trial_is_refused(run: FinishedRun) -> None:
    for record in find_trials(run.out):
        (record.folder / "rgb" / BEST).unlink()
    with pytest.raises(CheckpointError, match=r"no trial of .* has finished; .*--resume"):
        evaluated(run)


def test_a_run_is_scored_by_its_own_split(run: FinishedRun) -> None:
    """Neither another one of that name beside the store nor a missing one matters."""
    before = json.loads((run.out / "results.json").read_text())["fusions"]
    replace_split(run)
    assert json.loads(json.dumps(evaluated(run).to_json()["fusions"])) == before
    shutil.rmtree(run.store.with_name("clips.h5.splits"))
    assert json.loads(json.dumps(evaluated(run).to_json()["fusions"])) == before


def older(run: FinishedRun) -> FinishedRun:
    """Make the run one of before, without splits of its own."""
    for record in find_trials(run.out):
        split_path(record.folder).unlink()
    return run


def replace_split(run: FinishedRun) -> None:
    """Put the split with two folds exchanged beside the store."""
    split = read_split(run.store, "5-fold")
    moved = {k: {"0": "1", "1": "0"}.get(fold, fold) for k, fold in split.parts.items()}
    write_split(run.store, dataclasses.replace(split, parts=moved))


def test_an_older_run_is_scored_by_the_split_beside_the_store(run: FinishedRun) -> None:
    results = evaluated(older(run))
    assert [trial.part for trial in results.trials] == ["0", "1"]


def test_an_older_run_had_no_use_for_a_validation_subset(run: FinishedRun) -> None:
    parts = {"a": "train", "b": "test", "c": "val"}
    write_split(run.store, Split(name="s", kind="subset", parts=parts, groups={"a": "x", "c": "y"}))
    (record, _) = find_trials(older(run).out)
    data = DataRecord(**{**record.data, "split": "s"})
    with flowkit.open(run.store) as store:
        split = rescoring._split(dataclasses.replace(record, data=data), store)
    assert (split.parts, split.groups) == ({"a": "train", "b": "test"}, {"a": "x"})


def test_another_split_of_the_same_name_is_refused_for_an_older_run(run: FinishedRun) -> None:
    replace_split(run)
    with pytest.raises(CheckpointError, match=r"other clips .*clips.test is"):
        evaluated(older(run))


def test_a_store_without_an_older_run_s_split_is_refused(run: FinishedRun) -> None:
    shutil.rmtree(run.store.with_name("clips.h5.splits"))
    with pytest.raises(InputError, match="no split '5-fold'"):
        evaluated(older(run))


def test_the_store_of_the_training_is_found_while_it_is_there(run: FinishedRun, trained: FinishedRun) -> None:
    assert recorded_store(run.out) == trained.store
    results = json.loads((run.out / "results.json").read_text())
    results["data"]["store"] = "gone.h5"
    (run.out / "results.json").write_text(json.dumps(results))
    with pytest.raises(InvalidParameterError, match=r"gone\.h5, which is not there; .*--store"):
        recorded_store(run.out)
