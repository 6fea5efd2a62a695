"""What a stage is and what it keeps on disk: where it was left, its best epoch, and that it has finished."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gating.checkpoint import check_identity, load_checkpoint, save_checkpoint
from gating.config import AugmentConfig
from gating.errors import CheckpointError
from gating.places import Place
from gating.run_folder import BEST, LAST
from gating.schedule import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What a stage trains on, and where it keeps what it learned.

    Parameters
    ----------
    name : str
        Such as "rgb", "fold0/flow" or "gate".
    folder : Path
        Of its checkpoints.
    schedule : Schedule
    augment : AugmentConfig
    learn, validation : sequence of str
        Ids to learn from, and ids that say which epoch is best.
    identity : mapping
        Plain values that decide the result; a checkpoint of another identity is refused.
    resume : bool
        Go on with an unfinished stage, which is an error otherwise.
    checkpoint_seconds : float
        How often the place within an epoch is saved; each epoch's end is, in any case.
    """

    name: str
    folder: Path
    schedule: Schedule
    augment: AugmentConfig
    learn: Sequence[str]
    validation: Sequence[str]
    identity: Mapping[str, Any]
    resume: bool = False
    checkpoint_seconds: float = 300.0


@dataclasses.dataclass(slots=True)
class Progress:
    """How far a stage is: `position` counts this process's clips of the epoch; `best` is (top-1, -loss)."""

    epoch: int = 0
    position: int = 0
    best: tuple[float, float] = (-1.0, -math.inf)
    best_epoch: int = -1


class StageFiles:
    """The checkpoints of one stage; of several processes the first alone writes."""

    def __init__(self, stage: Stage, place: Place) -> None:
        self._stage, self._place = stage, place
        self._last, self._best = stage.folder / LAST, stage.folder / BEST

    def kept(self) -> list[str]:
        """Return the names of the checkpoints that are there."""
        return [path.name for path in (self._last, self._best) if path.is_file()]

    def load_finished(self, network: nn.Module) -> int | None:
        """Load the best epoch of a stage that has finished and return it, or None.

        Raises
        ------
        CheckpointError
            It was made with another configuration or data.
        """
        content = load_checkpoint(self._best) if self._best.is_file() else None
        if content is None or not content["finished"]:
            return None
        return self._loaded(content, network)

    def load_last(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> Progress | None:
        """Load the place where an unfinished stage was left and return it, or None.

        Raises
        ------
        CheckpointError
            The stage is not to be resumed, or was another one, or another number of processes
            was within an epoch of it.
        """
        if not self._last.is_file():
            return None
        if not self._stage.resume:
            raise CheckpointError(
                f"{self._last} is of an unfinished run; go on with --resume, or give another --out"
            )
        content = load_checkpoint(self._last)
        check_identity(content["identity"], self._stage.identity, source=self._last)
        if content["world"] != self._place.world and content["position"]:
            raise CheckpointError(
                f"{self._last} lies within an epoch of {content['world']} processes, and "
                f"{self._place.world} run now; go on with {content['world']}"
            )
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        scaler.load_state_dict(content["scaler"])
        return Progress(content["epoch"], content["position"], tuple(content["best"]), content["best_epoch"])

    def save_last(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        progress: Progress,
    ) -> None:
        """Save all that going on takes."""
        if self._place.leads:
            content = {
                **self._head(network),
                **dataclasses.asdict(progress),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "world": self._place.world,
            }
            save_checkpoint(self._last, content)

    def save_best(self, network: nn.Module, progress: Progress) -> None:
        """Save the network of the best epoch so far."""
        if self._place.leads:
            best = {"epoch": progress.best_epoch, "score": list(progress.best), "finished": False}
            save_checkpoint(self._best, {**self._head(network), **best})

    def finish(self, network: nn.Module) -> int:
        """Load the best epoch, note that the stage has finished, and return the epoch."""
        self._place.wait()
        content = load_checkpoint(self._best)
        epoch = self._loaded(content, network)
        self._place.wait()
        if self._place.leads:
            save_checkpoint(self._best, {**content, "finished": True})
            self._last.unlink(missing_ok=True)
        self._place.wait()
        return epoch

    def _loaded(self, content: Mapping[str, Any], network: nn.Module) -> int:
        check_identity(content["identity"], self._stage.identity, source=self._best)
        network.load_state_dict(content["network"])
        epoch: int = content["epoch"]
        return epoch

    def _head(self, network: nn.Module) -> dict[str, Any]:
        return {
            "stage": self._stage.name,
            "identity": dict(self._stage.identity),
            "network": network.state_dict(),
        }
