"""The training loop: one stage, from the first step or from where it was left, to its best epoch.

All that is random in a step follows from the seed, the epoch, the step and the process; so a run
that was interrupted ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from gating.batches import Batches, Step
from gating.crop_draw import seed_of
from gating.epoch_clock import EpochClock
from gating.errors import TrainingError
from gating.events import OnEvent
from gating.interrupts import Interruptions
from gating.parameter_groups import parameter_groups
from gating.precision import autocast
from gating.schedule import Schedule
from gating.stage_files import Progress, Stage, StageFiles
from gating.tasks import Task, TaskOutput
from gating.validation import validate

LOGGED_STEPS = 10
"""How many steps of an epoch are told of, about."""


class Trainer:
    """Trains one task; see `fit`.

    Parameters
    ----------
    task
        Holds the network that learns, on the place's device.
    batches
        Reads the clips.
    stage
        What to train on, and where checkpoints go.
    tell
        Called with each event: {"event": "step", "epoch", "paused", "resumed", "skipped" or
        "finished", "stage": its name, ...}; in the first process alone.
    """

    def __init__(self, task: Task, batches: Batches, stage: Stage, *, tell: OnEvent) -> None:
        self.task, self.batches, self.stage = task, batches, stage
        self.place, self.config, self.schedule = batches.place, batches.config, stage.schedule
        self.files = StageFiles(stage, self.place)
        groups = parameter_groups(task.learner, lr=self.schedule.lr, weight_decay=self.schedule.weight_decay)
        self.optimizer = _optimizer([dict(group) for group in groups], self.schedule)
        self.rates = [group["lr"] for group in groups]
        self.precision = batches.precision
        scales = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(self.place.device.type, enabled=scales)
        self.progress = Progress()
        self._tell = tell

    def fit(self) -> None:
        """Train the stage to its end, unless that was done before, and load its best epoch.

        Raises
        ------
        CheckpointError
            There is a checkpoint of another configuration or data, or an unfinished one and the
            stage is not to be resumed.
        TrainingError
            The loss is not finite; the checkpoints are of before.
        KeyboardInterrupt
            After Ctrl-C, once the place is saved.
        """
        epoch = self.files.load_finished(self.task.learner)
        if epoch is not None:
            self.tell("skipped", best_epoch=epoch)
            return
        self._resume()
        net = self.task if self.place.world == 1 else DistributedDataParallel(self.task)
        with Interruptions() as interruptions:
            while self.progress.epoch < self.schedule.epochs:
                clock = EpochClock()
                for step in self._steps():
                    self._learn(net, step, clock)
                    self.progress.position = step.position
                    self._save_if_due(clock, stop=interruptions.asked)
                self._end_epoch(clock)
        self.tell("finished", best_epoch=self.files.finish(self.task.learner))

    def _learn(self, net: torch.nn.Module, step: Step, clock: EpochClock) -> None:
        """Take one step: the micro-batches' gradients are added up, by their clips."""
        epoch = self.progress.epoch
        torch.manual_seed(seed_of(self.config.seed, epoch, step.number, self.place.rank))
        self._set_rate(epoch + step.number / self._steps_in_epoch)
        self.task.train()
        loss, done = 0.0, 0
        for batch in clock.waiting(step.batches):
            share = len(batch.ids) / step.clips
            done += len(batch.ids)
            with self._exchanging(net, last=done == step.clips):
                with autocast(self.place.device, self.precision):
                    output: TaskOutput = net(batch)
                self.scaler.scale(output.loss * share).backward()  # type: ignore[no-untyped-call]
            loss += float(output.loss.detach()) * share
            clock.count(output, batch.labels)
        self._check_finite(self.place.summed([loss])[0], step)
        self._update()
        if step.number % max(1, self._steps_in_epoch // LOGGED_STEPS) == 0:
            rate = self.optimizer.param_groups[0]["lr"]
            place = {"epoch": epoch, "step": step.number, "steps": self._steps_in_epoch}
            self.tell("step", **place, epochs=self.schedule.epochs, lr=rate, **clock.summary())

    def _update(self) -> None:
        if self.schedule.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            learning = [one for group in self.optimizer.param_groups for one in group["params"]]
            torch.nn.utils.clip_grad_norm_(learning, self.schedule.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _check_finite(self, loss: float, step: Step) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of stage {self.stage.name!r} is {loss} at epoch {self.progress.epoch}, step "
                f"{step.number}; nothing of this step was learned. {self.stage.folder} keeps "
                f"{' and '.join(self.files.kept()) or 'no checkpoint yet'}. Lower the rate (--lr-factor), "
                "or try without --amp"
            )

    def _end_epoch(self, clock: EpochClock) -> None:
        progress, trained = self.progress, clock.summary()
        valid = validate(self.task, self.batches, self.stage.validation, precision=self.precision)
        score = (valid["top1"], -valid["loss"])
        better = score > progress.best
        if better:
            progress.best, progress.best_epoch = score, progress.epoch
        place = {"epoch": progress.epoch, "epochs": self.schedule.epochs}
        self.tell("epoch", **place, training=trained, validation=valid, best=better)
        progress.epoch, progress.position = progress.epoch + 1, 0
        if better:
            self.files.save_best(self.task.learner, progress)
        self._save_last()

    def _save_if_due(self, clock: EpochClock, *, stop: bool) -> None:
        due = clock.since_saved() > self.stage.checkpoint_seconds
        stop, due = (total > 0 for total in self.place.summed([float(stop), float(due)]))
        if stop or due:
            self._save_last()
            clock.note_saved()
        if stop:
            self.tell("paused", epoch=self.progress.epoch, position=self.progress.position)
            self.place.wait()
            raise KeyboardInterrupt

    def _save_last(self) -> None:
        self.files.save_last(self.task.learner, self.optimizer, self.scaler, self.progress)

    def _resume(self) -> None:
        found = self.files.load_last(self.task.learner, self.optimizer, self.scaler)
        if found is not None:
            self.progress = found
            self.tell("resumed", epoch=found.epoch, position=found.position)

    def _steps(self) -> Iterator[Step]:
        return self.batches.training(
            self.stage.learn,
            self.stage.augment,
            self.task.modalities,
            batch=self.schedule.batch,
            epoch=self.progress.epoch,
            position=self.progress.position,
            segments=self.schedule.segments,
        )

    @property
    def _steps_in_epoch(self) -> int:
        return self.batches.steps_in(self.stage.learn, self.schedule.batch)

    def _set_rate(self, epoch: float) -> None:
        factor = self.schedule.factor(epoch)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _exchanging(self, net: torch.nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Exchange gradients between processes with the last micro-batch alone."""
        if last or not isinstance(net, DistributedDataParallel):
            return contextlib.nullcontext()
        waiting: contextlib.AbstractContextManager[None] = net.no_sync()
        return waiting

    def tell(self, event: str, **values: Any) -> None:
        """Tell of an event, if this is the first process."""
        if self.place.leads:
            self._tell({"event": event, "stage": self.stage.name, **values})


def _optimizer(groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=schedule.lr)
    return torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum)
