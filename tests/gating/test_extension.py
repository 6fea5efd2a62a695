"""Going on from a finished run: what starts from its weights, what stays, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

import flowkit
from flowkit.errors import InvalidParameterError
from gating.config import StageKind
from gating.errors import CheckpointError
from gating.extension import read_parent
from gating.run import RunOptions, train
from gating.run_folder import best_checkpoint, find_trials, read_context, read_trial, write_trial
from gating.train_config import TrainConfig, train_preset
from gating.training.checkpoint import load_stage
from tests.make.labelled import five_folds, quick


def run(store: Path, out: Path, config: TrainConfig, *, folds: tuple[str, ...] | None = ("0",)) -> Path:
    with flowkit.open(store) as opened:
        train(opened, [five_folds(opened)], config, RunOptions(out=out, folds=folds, device="cpu"))
    return out


@pytest.fixture(scope="module")
def parent(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(labelled_path, tmp_path_factory.mktemp("parent") / "run", quick())


def weights(out: Path, stage: str) -> dict[str, torch.Tensor]:
    network: dict[str, torch.Tensor] = load_stage(best_checkpoint(out / "5-fold-0" / "seed0", stage))[
        "network"
    ]
    return network


def slow(config: TrainConfig, **changes: object) -> TrainConfig:
    """An epoch at a rate that changes hardly anything."""
    stage = dataclasses.replace(config.rgb, epochs=1, lr=1e-9)
    return dataclasses.replace(config, rgb=stage, gate=stage, **changes)  # type: ignore[arg-type]


def test_stages_go_on_from_the_weights_of_the_run_and_others_keep_them(
    labelled_path: Path, parent: Path, tmp_path: Path
) -> None:
    found = read_parent(parent)
    assert (found.folds, found.seeds, [one.name for one in found.splits]) == (("0",), (0,), ["5-fold"])
    going_on: tuple[StageKind, ...] = ("rgb",)
    config = found.extended(slow(found.config), going_on=going_on)
    assert config.extends is not None
    assert config.extends.kept == ("flow",)  # the gate goes on with the stream that it weighs
    out = run(labelled_path, tmp_path / "new", config)
    before, after = weights(parent, "flow"), weights(out, "flow")
    assert all(torch.equal(before[name], after[name]) for name in before)
    for stage, name in (("rgb", "classifier.weight"), ("gate", "fc_gate.weight")):
        old, new = weights(parent, stage)[name], weights(out, stage)[name]
        assert not torch.equal(old, new)
        assert torch.allclose(old, new, atol=1e-6)
    (record,) = find_trials(out)
    assert record.config.extends == config.extends
    written = read_context(out).config["extends"]
    assert written == {"run": str(parent.resolve()), "kept": ["flow"]}


def test_other_data_are_refused(labelled_path: Path, parent: Path, tmp_path: Path) -> None:
    found = read_parent(parent)
    config = found.extended(slow(found.config, validation_share=0.5))
    with pytest.raises(CheckpointError, match=r"trained on other data.*clips\.validation"):
        run(labelled_path, tmp_path / "new", config)
    with pytest.raises(CheckpointError, match="5-fold-1"):
        run(labelled_path, tmp_path / "new", found.extended(found.config), folds=("1",))
    assert not (tmp_path / "new").exists()


def test_heads_and_unfinished_runs_have_nothing_to_go_on_with(parent: Path, tmp_path: Path) -> None:
    record = read_trial(parent / "5-fold-0" / "seed0")
    write_trial(tmp_path / "frozen" / "s" / "seed0", train_preset("frozen"), record.data)
    with pytest.raises(InvalidParameterError, match="nothing to go on with"):
        read_parent(tmp_path / "frozen")
    write_trial(tmp_path / "left" / "s" / "seed0", record.config, record.data)
    with pytest.raises(CheckpointError, match="has not finished: rgb, flow, gate"):
        read_parent(tmp_path / "left")
