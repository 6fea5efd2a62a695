"""Checkpoints: whole or absent, of tensors and plain values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gating.errors import CheckpointError
from gating.training.checkpoint import check_identity, differences, load_checkpoint, save_checkpoint


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
