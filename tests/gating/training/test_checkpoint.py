"""Checkpoints: whole or absent, of tensors and plain values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gating.distributed import ProcessGroup
from gating.errors import CheckpointError
from gating.training.checkpoint import (
    StageCheckpoints,
    check_identity,
    differences,
    load_checkpoint,
    load_stage,
    save_checkpoint,
)
from gating.training.tasks import Stage
from tests.make.labelled import quick


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rgb" / "last.pt"
    save_checkpoint(path, {"epoch": 3, "network": {"weight": torch.arange(3)}})
    found = load_checkpoint(path)
    assert found["epoch"] == 3
    assert torch.equal(found["network"]["weight"], torch.arange(3))
    assert os.listdir(path.parent) == ["last.pt"]


def test_a_write_that_breaks_off_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def half(content: Any, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="no checkpoint that can be read"):
        load_checkpoint(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(CheckpointError, match="flowkit train"):
        load_checkpoint(path)


def test_each_difference_is_named_with_both_values() -> None:
    there, here = {"a": {"b": 1}, "c": (1, 2)}, {"a": {"b": 2}, "c": [1, 2], "d": None}
    assert differences(there, here) == ["a.b is 1 there and 2 here"]
    with pytest.raises(CheckpointError, match=r"x\.pt was made with .*: a\.b is 1 there and 2 here\. Give"):
        check_identity(there, here, source=Path("x.pt"))


def test_a_flipped_bit_of_a_weight_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    save_checkpoint(path, {"network": {"weight": torch.full((64,), 1.5)}})
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((4,), 1.5).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best\.pt is no checkpoint that can be read: the checksum of"):
        load_checkpoint(path)


def whole(**changes: Any) -> dict[str, Any]:
    """Content of a `last.pt`, which a `best.pt` is a part of."""
    content: dict[str, Any] = {
        "stage": "rgb",
        "identity": {"config": {}, "data": {}},
        "network": {"weight": torch.ones(3)},
        "epoch": 1,
        "finished": True,
        "position": 0,
        "best": (0.5, -1.0),
        "best_epoch": 0,
        "world": 1,
        "optimizer": {},
        "scaler": {},
    }
    return {**content, **changes}


def laughs() -> list[Any]:
    """One list, ten times in one that is ten times in another, and so on: 10**30 values in a kilobyte."""
    found: list[Any] = ["ha"]
    for _ in range(30):
        found = [found] * 10
    return found


def nest(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = (found,)
    return found


def test_a_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", whole())
    for is_last in (False, True):
        assert load_stage(tmp_path / "last.pt", is_last=is_last)["epoch"] == 1


@pytest.mark.parametrize(
    "change",
    [
        *({"stage": 1}, {"identity": []}, {"identity": {"data": torch.ones(2)}}, {"identity": {3: 1}}),
        *({"identity": {"data": laughs()}}, {"identity": {"data": nest(500)}, "epoch": None}),
        *({"network": []}, {"network": {"weight": 1}}, {"network": {1: torch.ones(1)}}),
        *({"network": {"weight": torch.ones(1).expand(10**12)}}, {"epoch": "1"}, {"epoch": 10**5000}),
        *({"finished": 1}, {"finished": None}, {"epoch": torch.ones(2)}),
    ],
    ids=range(15),
)
def test_values_that_no_stage_has_are_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "best.pt", whole(**change))
    with pytest.raises(CheckpointError, match=r"best\.pt is no checkpoint") as caught:
        load_stage(tmp_path / "best.pt")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"position": "0"}, {"world": None}, {"best": 3}, {"best": (1.0,)}, {"best": (0.5, float("nan"))}),
        *({"best_epoch": 1.5}, {"optimizer": []}, {"scaler": None}),
    ],
    ids=range(8),
)
def test_values_that_no_unfinished_stage_has_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "last.pt", whole(**change))
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint: .*flowkit train"):
        load_stage(tmp_path / "last.pt", is_last=True)


def test_a_difference_of_any_size_is_a_short_line() -> None:
    found = {"config": laughs(), "k" * 10_000: "x" * 1_000_000, 3: 1}
    with pytest.raises(CheckpointError, match="other settings or data") as caught:
        check_identity(found, {"config": {"a": 1}}, source=Path("x.pt"))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 12_000


def kept(folder: Path, **changes: Any) -> StageCheckpoints:
    """The checkpoints of a stage that goes on from a `last.pt` of these values."""
    folder.mkdir()
    stage = Stage(
        name="rgb",
        folder=folder,
        schedule=quick().rgb,
        augment=quick().augment,
        train_ids=(),
        validation_ids=(),
        identity=whole()["identity"],
        resume=True,
    )
    save_checkpoint(folder / "last.pt", whole(**changes))
    return StageCheckpoints(stage, ProcessGroup(torch.device("cpu")))


def test_an_optimiser_s_state_of_other_shapes_is_refused_before_a_step(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    good, scaler = optimizer.state_dict(), torch.amp.GradScaler("cpu", enabled=False)
    own = network.state_dict()
    sound = kept(tmp_path / "sound", network=own, optimizer=good)
    assert sound.load_last(network, optimizer, scaler) is not None
    wide = {**good, "state": {0: {**good["state"][0], "exp_avg": torch.ones(7)}}}
    for number, bad in enumerate((wide, {}, {"state": {}, "param_groups": 3}, {"param_groups": []})):
        checkpoints = kept(tmp_path / f"{number}", network=own, optimizer=bad)
        with pytest.raises(CheckpointError, match=r"last\.pt has a state of the optimiser that does not fit"):
            checkpoints.load_last(network, torch.optim.AdamW(network.parameters()), scaler)
    other = kept(tmp_path / "other", network={"weight": torch.ones(5, 5)}, optimizer=good)
    with pytest.raises(CheckpointError, match=r"does not fit .*: wrong shape: weight is \(5, 5\), expected"):
        other.load_last(network, optimizer, scaler)
