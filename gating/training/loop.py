"""The training loop of one stage, from the top: epochs, steps, micro-batches.

`Trainer.fit` goes through the epochs: train, validate, keep the best, save. `_train_epoch` goes
through the steps of one: log, save, stop when asked to. `_train_step` goes through the micro-batches
of one: forward and backward, then the optimiser.

Random numbers of a step follow from the seed, the epoch, the step and the rank; so an interrupted
run ends with the weights of an uninterrupted one.

Between two logged steps nothing waits for the device: losses and metrics stay there as tensors, and
a stop is a flag on the host. (Under float16, of GPUs without bfloat16, torch's gradient scaler does
wait: it reads whether a gradient overflowed.)
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from gating.data.augment import seed_of
from gating.data.loader import ClipLoader, Step
from gating.distributed import autocast
from gating.errors import TrainingError
from gating.events import OnEvent
from gating.metrics import EpochMetrics, Numbers, RunningMetrics, ValidationMeans
from gating.training.checkpoint import StageCheckpoints, StageProgress
from gating.training.optimizer import build_optimizer, lr_factor, parameter_groups, set_lr
from gating.training.tasks import Stage, Task, TaskOutput

LOGGED_STEPS = 10
"""Steps of an epoch that are logged, about."""


class Trainer:
    """Training of one task; see `fit`.

    Parameters
    ----------
    task
        Holds the network that learns, on the loader's device.
    loader
        Reads the clips.
    stage
        The clips, the schedule, and the folder of checkpoints.
    on_event
        Called with each event, {"event": "step", "epoch", "paused", "resumed", "skipped", "stopped" or
        "finished", "stage": its name, ...}, in the main process alone.
    """

    def __init__(self, task: Task, loader: ClipLoader, stage: Stage, *, on_event: OnEvent) -> None:
        self.task, self.loader, self.stage, self.schedule = task, loader, stage, stage.schedule
        self.process_group, self.precision = loader.process_group, loader.precision
        self.groups = parameter_groups(
            task.learner, lr=self.schedule.lr, weight_decay=self.schedule.weight_decay
        )
        self.optimizer = build_optimizer(self.groups, self.schedule)
        scales = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(self.process_group.device.type, enabled=scales)
        self.checkpoints = StageCheckpoints(stage, self.process_group)
        self.progress = StageProgress()
        self.steps = loader.steps_per_epoch(stage.train_ids, self.schedule.batch)
        self._unchecked: dict[int, Tensor] = {}
        self._on_event = on_event

    def fit(self) -> None:
        """Train the stage to its end, unless that was done before, and load its best epoch.

        Raises
        ------
        CheckpointError
            There is a checkpoint of another configuration or data, or an unfinished one and the
            stage is not to be resumed.
        TrainingError
            The loss is not finite; the checkpoints from before it are kept.
        KeyboardInterrupt
            After Ctrl-C, once the stage is saved as it is.
        """
        best_epoch = self.checkpoints.load_finished(self.task.learner)
        if best_epoch is not None:
            self._log("skipped", best_epoch=best_epoch)
            return
        self._resume()
        net = self.task if self.process_group.world_size == 1 else DistributedDataParallel(self.task)
        progress = self.progress
        with StopRequest() as stop:
            while progress.epoch < self.schedule.epochs and not self._stale():
                trained = self._train_epoch(net, stop)
                if trained is None:  # stopped within the epoch, and saved
                    raise KeyboardInterrupt
                valid, better = self._validated()
                now = {"epoch": progress.epoch, "epochs": self.schedule.epochs}
                self._log("epoch", **now, training=trained, validation=valid, best=better)
                progress.epoch, progress.position = progress.epoch + 1, 0
                if better:
                    self.checkpoints.save_best(self.task.learner, progress)
                self._save_last()
        if progress.epoch < self.schedule.epochs:
            self._log("stopped", epoch=progress.epoch - 1, epochs=self.schedule.epochs)
        self._log("finished", best_epoch=self.checkpoints.finish(self.task.learner))

    def _stale(self) -> bool:
        """Return True once the stage's patience has passed; the checkpoints keep all that this depends on."""
        since_best = self.progress.epoch - 1 - self.progress.best_epoch
        return self.stage.patience is not None and since_best >= self.stage.patience

    def _validated(self) -> tuple[ValidationMeans | Numbers, bool]:
        """Return the epoch's validation, and whether it is the best; without validation clips the last is.

        Top-1 decides, and between equals the lower loss.
        """
        ids, progress = self.stage.validation_ids, self.progress
        if not ids:
            progress.best_epoch = progress.epoch
            return {}, True
        valid = validate(self.task, self.loader, ids, precision=self.precision)
        score = (valid["top1"], -valid["loss"])
        better = score > progress.best
        if better:
            progress.best, progress.best_epoch = score, progress.epoch
        return valid, better

    def _train_epoch(self, net: torch.nn.Module, stop: StopRequest) -> Numbers | None:
        """Take the epoch's remaining steps; return its metrics, or None if it was stopped and saved."""
        progress, metrics, saved = self.progress, EpochMetrics(), time.monotonic()
        for step in self._steps_left():
            self._unchecked[step.number] = self._train_step(net, step, metrics)
            progress.position = step.position
            if step.number % max(1, self.steps // LOGGED_STEPS) == 0:
                self._check_losses()
                now = {"epoch": progress.epoch, "step": step.number, "steps": self.steps}
                lr = self.optimizer.param_groups[0]["lr"]
                self._log("step", **now, epochs=self.schedule.epochs, lr=lr, **metrics.summary())
            due = time.monotonic() - saved > self.stage.checkpoint_seconds
            # One process's Ctrl-C stops all, after the same step.
            stopping, saving = self.process_group.all_sum([float(stop.requested), float(due)])
            if stopping or saving:
                self._save_last()
                saved = time.monotonic()
            if stopping:
                self._log("paused", epoch=progress.epoch, position=progress.position)
                self.process_group.barrier()
                return None
        self._check_losses()
        return metrics.summary()

    def _train_step(self, net: torch.nn.Module, step: Step, metrics: EpochMetrics) -> Tensor:
        """Learn from a step's clips and return their mean loss, float64 on the device.

        The micro-batches' gradients are added up, by their clips.
        """
        epoch, device = self.progress.epoch, self.process_group.device
        torch.manual_seed(seed_of(self.loader.config.seed, epoch, step.number, self.process_group.rank))
        set_lr(self.optimizer, self.groups, lr_factor(self.schedule, epoch + step.number / self.steps))
        self.task.train()
        loss, done = torch.zeros((), dtype=torch.float64, device=device), 0
        for batch in metrics.timed(step.batches):
            fraction = len(batch.ids) / step.clips
            done += len(batch.ids)
            with _gradient_exchange(net, last=done == step.clips):
                with autocast(device, self.precision):
                    output: TaskOutput = net(batch)
                self.scaler.scale(output.loss * fraction).backward()  # type: ignore[no-untyped-call]
            loss += output.loss.detach().double() * fraction
            metrics.update(output, batch.labels)
        if self.schedule.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            learning = [parameter for group in self.groups for parameter in group["params"]]
            clip_grad_norm_(learning, self.schedule.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _check_losses(self) -> None:
        """Raise TrainingError if the loss of a step since the last check is not finite.

        Nothing that outlives the error comes from such a step: this is called before logging, saving
        and validation. In memory the optimiser did take the step, and up to a tenth of an
        epoch after it; to refuse it there, each step would have to wait for its loss, as torch's
        optimisers cannot skip a step by a flag on the device unless they are fused, which rounds
        otherwise.
        """
        if not self._unchecked:
            return
        losses = self.process_group.all_reduce(torch.stack(list(self._unchecked.values()))).tolist()
        numbers = list(self._unchecked)
        self._unchecked.clear()
        for number, loss in zip(numbers, losses, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of stage {self.stage.name!r} is {loss} at epoch {self.progress.epoch}, step "
                    f"{number}; nothing of this step was kept. {self.stage.folder} has "
                    f"{' and '.join(self.checkpoints.kept()) or 'no checkpoint yet'}, of before. Lower the "
                    "learning rate (--lr-factor), or try without --amp"
                )

    def _resume(self) -> None:
        found = self.checkpoints.load_last(self.task.learner, self.optimizer, self.scaler)
        if found is not None:
            self.progress = found
            self._log("resumed", epoch=found.epoch, position=found.position)

    def _save_last(self) -> None:
        self._check_losses()
        self.checkpoints.save_last(self.task.learner, self.optimizer, self.scaler, self.progress)

    def _steps_left(self) -> Iterator[Step]:
        return self.loader.training(
            self.stage.train_ids,
            self.stage.augment,
            self.task.modalities,
            batch=self.schedule.batch,
            epoch=self.progress.epoch,
            position=self.progress.position,
            segments=self.schedule.segments,
        )

    def _log(self, event: str, **values: object) -> None:
        if self.process_group.is_main:
            self._on_event({"event": event, "stage": self.stage.name, **values})


def _gradient_exchange(net: torch.nn.Module, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Return the context of a backward pass: processes exchange gradients at the last micro-batch alone."""
    if last or not isinstance(net, DistributedDataParallel):
        return contextlib.nullcontext()
    without: contextlib.AbstractContextManager[None] = net.no_sync()
    return without


@torch.inference_mode()
def validate(
    task: Task, loader: ClipLoader, ids: Sequence[str], *, precision: torch.dtype | None
) -> ValidationMeans:
    """Return top-1, loss and the gates' summary of clips over all processes; one centre crop each."""
    task.eval()
    metrics = RunningMetrics()
    for (batch,) in loader.testing(ids, task.modalities, segments=loader.config.segments):
        with autocast(loader.process_group.device, precision):
            output: TaskOutput = task(batch)
        metrics.update(output, batch.labels)
    return metrics.means_over_all(loader.process_group)


class StopRequest:
    """Context in which the first Ctrl-C or SIGTERM sets `requested`, for the loop to read between steps.

    The second one raises KeyboardInterrupt at once. Outside of the main thread, where Python has no
    signals, nothing is set.
    """

    def __init__(self) -> None:
        self.requested = False
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._restore.callback(signal.signal, number, signal.signal(number, self._request))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.close()

    def _request(self, _: int, __: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
