"""Checkpoints of a stage: its progress and its best epoch, in files of tensors and plain values.

::

    <stage>/last.pt    the state to resume from: network, optimiser, progress within the epoch
    <stage>/best.pt    the network of the best epoch, and whether the stage has finished
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch
from torch import Tensor, nn

from flowkit.atomic import replacement
from flowkit.errors import InputError, InvalidParameterError
from flowkit.untrusted_json import typed
from flowkit.validate import check_that, shown
from gating.distributed import ProcessGroup
from gating.errors import CheckpointError
from gating.models.weights import UNREADABLE, first_line, load_file, misfits
from gating.run_folder import BEST, LAST
from gating.training.tasks import Stage

FORMAT = "flowkit-checkpoint 1"
_STATES = ("network", "optimizer", "scaler")
# Beside the tensors, names of classes are the most.
_MOST_VALUES = 1_000_000


class _Best(TypedDict):
    """The values of a `best.pt` beside its tensors."""

    stage: str
    identity: dict[str, Any]
    epoch: int
    finished: bool


class _Last(TypedDict):
    """The values of a `last.pt` beside its tensors."""

    stage: str
    identity: dict[str, Any]
    epoch: int
    position: int
    best: tuple[float, object]
    """Top-1 and minus the loss, which is -inf before the first epoch's end."""
    best_epoch: int
    world: int


@dataclasses.dataclass(slots=True)
class StageProgress:
    """The position of a stage's training, and its best epoch so far.

    Attributes
    ----------
    epoch : int
        The current epoch, from 0.
    position : int
        Clips of this process's partition of the epoch that are done.
    best : (float, float)
        Top-1 and minus the loss of the best epoch's validation.
    best_epoch : int
        -1 before the first epoch's end.
    """

    epoch: int = 0
    position: int = 0
    best: tuple[float, float] = (-1.0, -math.inf)
    best_epoch: int = -1


class StageCheckpoints:
    """The checkpoints of one stage; of several processes the main one alone writes."""

    def __init__(self, stage: Stage, process_group: ProcessGroup) -> None:
        self._stage, self._process_group = stage, process_group
        self._last, self._best = stage.folder / LAST, stage.folder / BEST

    def kept(self) -> list[str]:
        """Return the names of the checkpoints that exist."""
        return [path.name for path in (self._last, self._best) if path.is_file()]

    def check(self) -> bool:
        """Check the checkpoints as `load_finished` and `load_last` do; return whether the stage has finished.

        Raises
        ------
        CheckpointError
            As theirs.
        """
        if self._finished() is not None:
            return True
        self._unfinished()
        return False

    def load_finished(self, network: nn.Module) -> int | None:
        """Load the best epoch of a stage that has finished and return it, or None.

        Raises
        ------
        CheckpointError
            It was made with another configuration or data.
        """
        content = self._finished()
        return None if content is None else self._load_best(content, network)

    def load_last(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> StageProgress | None:
        """Load an unfinished stage as it was left and return its progress, or None.

        Raises
        ------
        CheckpointError
            The stage is not to be resumed, the checkpoint is of another one, or it was saved within
            an epoch by another number of processes.
        """
        content = self._unfinished()
        if content is None:
            return None
        load_network(network, content, source=self._last)
        try:
            _load_optimizer(optimizer, content["optimizer"])
            scaler.load_state_dict(content["scaler"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self._last} has a state of the optimiser that does not fit: {first_line(error)}; take it "
                "away and train the stage again"
            ) from error
        return StageProgress(
            content["epoch"], content["position"], tuple(content["best"]), content["best_epoch"]
        )

    def _finished(self) -> dict[str, Any] | None:
        """Return the checked content of a finished stage's best epoch, or None."""
        content = load_stage(self._best) if self._best.is_file() else None
        if content is None or not content["finished"]:
            return None
        check_identity(content["identity"], self._stage.identity, source=self._best)
        return content

    def _unfinished(self) -> dict[str, Any] | None:
        """Return the checked content of an unfinished stage that is to be resumed, or None."""
        if not self._last.is_file():
            return None
        if not self._stage.resume:
            raise CheckpointError(
                f"{self._last} is of an unfinished run; go on with --resume, or give another --out"
            )
        content = load_stage(self._last, is_last=True)
        check_identity(content["identity"], self._stage.identity, source=self._last)
        if content["world"] != self._process_group.world_size and content["position"]:
            raise CheckpointError(
                f"{self._last} is from within an epoch of {content['world']} processes, and "
                f"{self._process_group.world_size} run now; go on with {content['world']}"
            )
        return content

    def save_last(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        progress: StageProgress,
    ) -> None:
        """Save the state to resume from."""
        if self._process_group.is_main:
            content = {
                **self._head(network),
                **dataclasses.asdict(progress),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "world": self._process_group.world_size,
            }
            save_checkpoint(self._last, content)

    def save_best(self, network: nn.Module, progress: StageProgress) -> None:
        """Save the network of the best epoch so far."""
        if self._process_group.is_main:
            best = {"epoch": progress.best_epoch, "score": list(progress.best), "finished": False}
            save_checkpoint(self._best, {**self._head(network), **best})

    def finish(self, network: nn.Module) -> int:
        """Load the best epoch, mark the stage as finished, and return the epoch."""
        self._process_group.barrier()
        content = load_stage(self._best)
        check_identity(content["identity"], self._stage.identity, source=self._best)
        epoch = self._load_best(content, network)
        self._process_group.barrier()
        if self._process_group.is_main:
            save_checkpoint(self._best, {**content, "finished": True})
            self._last.unlink(missing_ok=True)
        self._process_group.barrier()
        return epoch

    def _load_best(self, content: Mapping[str, Any], network: nn.Module) -> int:
        load_network(network, content, source=self._best)
        epoch: int = content["epoch"]
        return epoch

    def _head(self, network: nn.Module) -> dict[str, object]:
        return {
            "stage": self._stage.name,
            "identity": dict(self._stage.identity),
            "network": network.state_dict(),
        }


def save_checkpoint(path: Path, content: Mapping[str, object]) -> None:
    """Write a checkpoint over an earlier one; a crash leaves the one or the other whole.

    Raises
    ------
    NoSpaceError
        The disk or a quota is full; the earlier checkpoint is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as temporary, temporary.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU.

    Raises
    ------
    CheckpointError
        It is absent, damaged, none of flowkit's, or holds more than tensors and plain values.
    """
    try:
        content = load_file(path)
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no checkpoint that can be read: {first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT!r}; was it made by `flowkit train`?")
    return content


def load_stage(path: Path, *, is_last: bool = False) -> dict[str, Any]:
    """Return the content of a stage's `best.pt` or `last.pt`, on the CPU, each value of its type.

    Raises
    ------
    CheckpointError
        As `load_checkpoint`, or a value is absent or of another type.
    """
    content = load_checkpoint(path)
    try:
        plain = {name: value for name, value in content.items() if name not in _STATES}
        _check_plain(plain)
        typed(
            "it",
            {name: plain.get(name) for name in get_type_hints(_Last if is_last else _Best)},
            _Last if is_last else _Best,
        )
        if is_last:
            score = plain["best"][1]
            check_that("best", score, type(score) is float and not math.isnan(score), "two numbers")
        for name in ("network", "optimizer", "scaler") if is_last else ("network",):
            check_that(name, content.get(name), isinstance(content.get(name), dict), "an object")
        names = [name for name, value in content["network"].items() if not _is_weight(name, value)]
        check_that("network", names, not names, "tensors by name alone")
    except (InputError, InvalidParameterError) as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}; was it made by `flowkit train`?") from error
    return content


def load_network(network: nn.Module, content: Mapping[str, Any], *, source: Path) -> None:
    """Load the network of a checkpoint's content.

    Raises
    ------
    CheckpointError
        Its tensors have other names, shapes or types.
    """
    if found := misfits(network, content["network"]):
        raise CheckpointError(
            f"{source} does not fit the networks of its trial: {found}. Put back the files of one trial"
        )
    network.load_state_dict(content["network"], strict=False)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state, or raise ValueError for one of other shapes, which a step would meet."""
    optimizer.load_state_dict(state)
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(value.shape)}, expected {tuple(parameter.shape)}")


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _check_plain(content: Mapping[str, object]) -> None:
    """Raise InputError unless values are plain and few: one list may be there many times over."""
    waiting: list[object] = [content]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, dict):
            check_that("names", list(value), all(isinstance(name, str) for name in value), "texts")
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif value is not None and not isinstance(value, str | int | float):
            raise InputError(f"it holds a {type(value).__name__} where plain values are expected")
    raise InputError(f"it holds more than {_MOST_VALUES} values beside its tensors")


def check_identity(found: Mapping[str, object], wanted: Mapping[str, object], *, source: Path) -> None:
    """Compare a checkpoint's configuration and data with the present ones.

    Raises
    ------
    CheckpointError
        They differ; the first few differences are named.
    """
    if differing := differences(found, wanted):
        named = "; ".join(differing[:6])
        raise CheckpointError(
            f"{source} was made with other settings or data: {named}. Give the same, or another --out"
        )


def differences(found: object, wanted: object, name: str = "") -> list[str]:
    """Return one line for each value of a nested record that differs: `name: there, here`."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted({*found, *wanted}, key=str)
        return [
            line
            for key in keys
            for line in differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        found, wanted = list(found), list(wanted)
    return [] if found == wanted else [f"{name} is {shown(found)} there and {shown(wanted)} here"]
