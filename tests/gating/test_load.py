"""Networks and the chosen fusion of a finished trial, and errors."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from gating.errors import CheckpointError
from gating.evaluation.results import read_comparison
from gating.evaluation.scores import ClipScores, load_scores
from gating.load import choose_fusion, load_networks, unfinished_stages
from gating.run_folder import BEST, read_trial, scores_path
from gating.training.checkpoint import load_checkpoint, save_checkpoint
from tests.make.finished_runs import FinishedRun, prefer, train_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return train_run(labelled_path, tmp_path_factory.mktemp("loaded"))


@pytest.fixture
def run(trained: FinishedRun, tmp_path: Path) -> FinishedRun:
    """The run in a folder that a test may change; store and videos are the module's."""
    shutil.copytree(trained.out, tmp_path / "run")
    return dataclasses.replace(trained, out=tmp_path / "run")


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def without_a_key(path: Path) -> None:
    content = load_checkpoint(path)
    del content["network"]["classifier.bias"]
    save_checkpoint(path, content)


def of_other_clips(path: Path) -> None:
    content = load_checkpoint(path)
    content["identity"]["data"]["clips"]["learn"] = "3 clips, sha256 0"
    save_checkpoint(path, content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "is absent: the stage 'flow'"),
        (damaged, "no checkpoint that can be read"),
        (without_a_key, "does not fit the networks .*classifier.bias"),
        (of_other_clips, "other settings or data: clips.learn is"),
    ],
)
def test_a_broken_checkpoint_is_named(run: FinishedRun, harm: Callable[[Path], None], message: str) -> None:
    harm(run.trial / "flow" / BEST)
    with pytest.raises(CheckpointError, match=message):
        load_networks(run.trial, device=CPU)


def test_a_folder_that_is_no_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no trial"):
        load_networks(tmp_path, device=CPU)


def test_stages_that_have_not_been_trained_to_their_end_are_named(run: FinishedRun) -> None:
    record = read_trial(run.trial)
    assert unfinished_stages(record) == []
    (run.trial / "rgb" / BEST).unlink()
    content = load_checkpoint(run.trial / "gate" / BEST)
    save_checkpoint(run.trial / "gate" / BEST, {**content, "finished": False})
    assert unfinished_stages(record) == ["rgb", "gate"]


def test_a_run_trained_for_another_fusion_predicts_with_it(run: FinishedRun) -> None:
    record = read_trial(run.trial)
    for name, weights in (("weighted", (1.5, 1.0)), ("stack", None), ("oracle", None)):
        chosen = choose_fusion(
            dataclasses.replace(record, config=dataclasses.replace(record.config, fusion=name))
        )
        test = load_scores(scores_path(run.trial, "test"))
        if name == "oracle":  # it would read the labels
            assert chosen.name == "search"
            continue
        compared = read_comparison(run.trial).fused[name]
        assert chosen.name == name
        assert (chosen.probabilities(test).argmax(axis=1) == compared.argmax(axis=1)).all()
        given = chosen.weights(test)
        assert (given is None) == (weights is None)
        if given is not None:
            assert {tuple(pair) for pair in given.tolist()} == {weights}


def test_a_clip_without_any_gate_gets_the_fixed_weights_and_says_so(run: FinishedRun) -> None:
    prefer(run.trial, gate=1.0, search=0.0)
    chosen = choose_fusion(read_trial(run.trial))
    test = load_scores(scores_path(run.trial, "test"))
    assert test.gates is not None
    gates = test.gates.copy()
    gates[0], gates[1] = 0.0, (0.0, 2.0)
    dead: ClipScores = dataclasses.replace(test, gates=gates)
    given = chosen.weights(dead)
    assert given is not None
    assert given[:2].tolist() == [[1.5, 1.0], [0.0, 2.0]]
    assert chosen.fell_back(dead)[:2].tolist() == [True, False]
