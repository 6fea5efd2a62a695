"""Checkpoints: what a stage has learned, and where it is, in files that hold tensors and plain values.

::

    <stage>/last.pt    all that going on takes: networks, optimiser, place in the epoch
    <stage>/best.pt    the network of the best epoch, and whether the stage has finished
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gating.errors import CheckpointError

FORMAT = "flowkit-checkpoint 1"


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of what was there; a crash leaves the one or the other whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU.

    Raises
    ------
    CheckpointError
        It is absent, damaged, none of flowkit's, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no checkpoint that can be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT!r}; was it made by `flowkit train`?")
    return content


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], *, source: Path) -> None:
    """Hold what a checkpoint was made with to what is asked for now.

    Raises
    ------
    CheckpointError
        They differ; the first few differences are told.
    """
    if differing := differences(found, wanted):
        told = "; ".join(differing[:6])
        raise CheckpointError(
            f"{source} was made with other settings or data: {told}. Give the same, or another --out"
        )


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Return one line for each value of a nested record that differs: `name: there, here`."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted({*found, *wanted})
        return [
            line
            for key in keys
            for line in differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        found, wanted = list(found), list(wanted)
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]
