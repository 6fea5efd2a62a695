"""How fast a network learns, and for how long."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from gating.config import check_choice, check_that

Optimizer = Literal["sgd", "adamw"]
Decay = Literal["constant", "steps", "cosine"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The optimiser of one stage and its rate over the epochs.

    Parameters
    ----------
    epochs : int
        Passes over the training clips, >= 1.
    lr : float
        Rate at the start, > 0.
    optimizer : {"sgd", "adamw"}
        SGD with momentum, as TSN and the release, or AdamW.
    decay : {"constant", "steps", "cosine"}
        Of the rate: none, a tenth after each milestone, or half a cosine to zero.
    milestones : tuple of float
        Epochs after which the rate falls to a tenth, ascending; for "steps" alone.
    warmup_epochs : float
        Epochs over which the rate rises linearly from zero, >= 0.
    segments : int or None
        Segments of a clip while the stage learns, >= 1; None is `TrainConfig.segments`. One is
        enough for a stream that learns from scratch, at a third of the cost of three.
    batch : int
        Clips of one step, over all processes and micro-batches, >= 1.
    momentum : float
        Of SGD, [0, 1).
    weight_decay : float
        >= 0; biases and batch norms have none.
    clip_norm : float or None
        Longest gradient, > 0; longer ones are shortened to it. TSN's 40 for rgb and 20 for flow.
    """

    epochs: int
    lr: float
    optimizer: Optimizer = "sgd"
    decay: Decay = "constant"
    milestones: tuple[float, ...] = ()
    warmup_epochs: float = 0.0
    segments: int | None = None
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        """Check each choice."""
        check_choice("optimizer", self.optimizer, ("sgd", "adamw"))
        check_choice("decay", self.decay, ("constant", "steps", "cosine"))
        check_that("epochs", self.epochs, self.epochs >= 1, ">= 1")
        check_that("lr", self.lr, 0 < self.lr < math.inf, "finite and > 0")
        check_that("segments", self.segments, self.segments is None or self.segments >= 1, ">= 1 or None")
        check_that("batch", self.batch, self.batch >= 1, ">= 1 clips")
        check_that("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        check_that("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and >= 0")
        check_that("clip_norm", self.clip_norm, self.clip_norm is None or self.clip_norm > 0, "> 0 or None")
        warm = 0 <= self.warmup_epochs < self.epochs
        check_that("warmup_epochs", self.warmup_epochs, warm, "in [0, epochs)")
        ascending = list(self.milestones) == sorted(self.milestones)
        fits = ascending and (not self.milestones or self.decay == "steps")
        check_that("milestones", self.milestones, fits, "ascending, and given with decay 'steps' alone")

    def factor(self, epoch: float) -> float:
        """Return what the rate is multiplied by at a point of training, in epochs from its start."""
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        if self.decay == "steps":
            return float(0.1 ** sum(epoch >= milestone for milestone in self.milestones))
        if self.decay == "cosine":
            share = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
            return (1 + math.cos(math.pi * min(1.0, share))) / 2
        return 1.0
