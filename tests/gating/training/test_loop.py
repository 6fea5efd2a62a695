"""The loop: what it refuses, what an interruption leaves, and that going on changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from flowkit.store.read.store import Store
from gating.config import LoaderConfig
from gating.data.loader import BOTH, Step
from gating.errors import CheckpointError, TrainingError
from gating.events import Event
from gating.metrics import EpochMetrics
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream
from gating.train_config import TrainConfig
from gating.training.checkpoint import load_checkpoint
from gating.training.loop import StopRequest, Trainer
from gating.training.tasks import GateTask
from tests.make.labelled import quick
from tests.make.trainers import equal, stream_trainer, weights

ROOT = Path(__file__).resolve().parents[3]


class InterruptedAt:
    """A callback that sends this process a Ctrl-C when a step is logged."""

    def __init__(self, epoch: int, step: int) -> None:
        self.step = (epoch, step)

    def __call__(self, event: Event) -> None:
        if event["event"] == "step" and (event["epoch"], event["step"]) == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "loader_config", [LoaderConfig(), LoaderConfig(micro_batch=3)], ids=["whole", "micro"]
)
def test_a_resumed_stage_ends_with_the_weights_of_an_uninterrupted_one(
    labelled_store: Store, tmp_path: Path, loader_config: LoaderConfig
) -> None:
    config = quick()
    whole = stream_trainer(labelled_store, tmp_path / "whole", config, loader_config=loader_config)
    whole.fit()
    first = stream_trainer(
        labelled_store, tmp_path / "cut", config, on_event=InterruptedAt(1, 1), loader_config=loader_config
    )
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    left = load_checkpoint(tmp_path / "cut" / "last.pt")
    assert (left["epoch"], left["position"]) == (1, 8)
    torch.manual_seed(99)  # where the generator happens to be must not matter
    second = stream_trainer(
        labelled_store, tmp_path / "cut", config, resume=True, loader_config=loader_config
    )
    second.fit()
    assert equal(weights(whole), weights(second))


def test_a_stage_left_after_the_last_step_of_an_epoch_goes_on_with_its_end(
    labelled_store: Store, tmp_path: Path
) -> None:
    config = quick()
    events: list[Event] = []
    whole = stream_trainer(labelled_store, tmp_path / "whole", config)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        stream_trainer(labelled_store, tmp_path / "cut", config, on_event=InterruptedAt(0, 2)).fit()
    second = stream_trainer(labelled_store, tmp_path / "cut", config, resume=True, on_event=events.append)
    second.fit()
    assert [event["event"] for event in events][:2] == ["resumed", "epoch"]
    assert equal(weights(whole), weights(second))


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_stage_ends_once_its_patience_has_passed(
    labelled_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    values = iter([0.5, 0.7, 0.7, 0.6, 0.9])  # of the validation's top-1, at a constant loss
    monkeypatch.setattr("gating.training.loop.validate", lambda *_, **__: {"top1": next(values), "loss": 1.0})
    config = quick(patience=2)
    config = dataclasses.replace(config, rgb=dataclasses.replace(config.rgb, epochs=9))
    events: list[Event] = []
    if interrupted:  # in the last epoch that patience allows
        with pytest.raises(KeyboardInterrupt):
            stream_trainer(labelled_store, tmp_path, config, on_event=InterruptedAt(3, 1)).fit()
    stream_trainer(labelled_store, tmp_path, config, on_event=events.append, resume=interrupted).fit()
    stopped, finished = events[-2:]
    assert stopped == {"event": "stopped", "stage": "rgb", "epoch": 3, "epochs": 9}
    assert finished["best_epoch"] == 1
    assert load_checkpoint(tmp_path / "best.pt")["finished"]


def test_a_balanced_stage_resumes_exactly(labelled_store: Store, tmp_path: Path) -> None:
    config = quick(sampling="balanced", class_weights="balanced")
    whole = stream_trainer(labelled_store, tmp_path / "whole", config)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        stream_trainer(labelled_store, tmp_path / "cut", config, on_event=InterruptedAt(1, 1)).fit()
    second = stream_trainer(labelled_store, tmp_path / "cut", config, resume=True)
    second.fit()
    assert equal(weights(whole), weights(second))
    plain = stream_trainer(labelled_store, tmp_path / "plain", quick())
    plain.fit()
    assert not equal(weights(whole), weights(plain))


def test_a_finished_stage_is_loaded_not_trained(labelled_store: Store, tmp_path: Path) -> None:
    config = quick()
    events: list[Event] = []
    done = stream_trainer(labelled_store, tmp_path, config)
    done.fit()
    again = stream_trainer(labelled_store, tmp_path, config, on_event=events.append)
    again.fit()
    assert [event["event"] for event in events] == ["skipped"]
    assert equal(weights(done), weights(again))
    assert not (tmp_path / "last.pt").exists()


def test_an_unfinished_stage_wants_resume(labelled_store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stream_trainer(labelled_store, tmp_path, quick(), on_event=InterruptedAt(0, 0)).fit()
    with pytest.raises(CheckpointError, match="--resume"):
        stream_trainer(labelled_store, tmp_path, quick()).fit()


def test_a_checkpoint_of_another_configuration_is_refused_by_name(
    labelled_store: Store, tmp_path: Path
) -> None:
    config = quick()
    stream_trainer(labelled_store, tmp_path, config).fit()
    other = dataclasses.replace(config, augment=dataclasses.replace(config.augment, bound_px=20.0))
    with pytest.raises(CheckpointError, match=r"augment\.bound_px is 4\.0 there and 20\.0 here"):
        stream_trainer(labelled_store, tmp_path, other).fit()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    labelled_store: Store, tmp_path: Path
) -> None:
    trainer = stream_trainer(labelled_store, tmp_path, quick())
    save = trainer.checkpoints.save_last

    def save_then_poison(*values: Any) -> None:
        save(*values)
        with torch.no_grad():
            trainer.task.learner.classifier.bias.fill_(math.nan)  # type: ignore[union-attr,operator]

    trainer.checkpoints.save_last = save_then_poison  # type: ignore[assignment, method-assign]
    with pytest.raises(TrainingError, match=r"stage 'rgb' is nan at epoch 1, step 0.*last\.pt and best\.pt"):
        trainer.fit()
    kept = load_checkpoint(tmp_path / "last.pt")
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["network"].values())


@pytest.mark.parametrize(("seconds", "kept"), [(-1.0, r"last\.pt"), (300.0, "no checkpoint yet")])
def test_a_loss_that_is_no_number_between_logged_steps_is_named_and_never_saved(
    labelled_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, kept: str
) -> None:
    monkeypatch.setattr("gating.training.loop.LOGGED_STEPS", 1)  # the first of three
    trainer = stream_trainer(labelled_store, tmp_path, quick(), checkpoint_seconds=seconds)
    train_step = trainer._train_step

    def poisoned_at_the_second(net: torch.nn.Module, step: Step, metrics: EpochMetrics) -> torch.Tensor:
        if step.number == 1:
            with torch.no_grad():
                trainer.task.learner.classifier.bias.fill_(math.nan)  # type: ignore[union-attr,operator]
        return train_step(net, step, metrics)

    trainer._train_step = poisoned_at_the_second  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=rf"is nan at epoch 0, step 1; .*{kept}"):
        trainer.fit()
    assert not (tmp_path / "best.pt").exists()
    if seconds < 0:
        left = load_checkpoint(tmp_path / "last.pt")
        assert left["position"] == 4
        assert all(value.isfinite().all() for value in left["network"].values())


class DeviceReads:
    """Notes each call by which the host reads a tensor, and so would wait for a GPU.

    Not those of tensors that never are on a GPU: the step counters of torch's optimisers, and what
    flowkit.datasets reads clips into.
    """

    NAMES = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step: tuple[int, int] | None = None
        self.noted: list[tuple[tuple[int, int] | None, str]] = []
        for name in self.NAMES:
            monkeypatch.setattr(torch.Tensor, name, self._spy(name))

    def _spy(self, name: str) -> Any:
        read = getattr(torch.Tensor, name)

        def spy(tensor: torch.Tensor, *values: Any, **options: Any) -> Any:
            caller = sys._getframe(1).f_code
            if Path(caller.co_filename).parent.name not in ("optim", "datasets"):
                self.noted.append((self.step, f"{name} in {caller.co_name} of {caller.co_filename}"))
            return read(tensor, *values, **options)

        return spy

    def follow(self, trainer: Trainer) -> None:
        """Note which step the trainer is at, and the end of each epoch as none."""
        train_step, train_epoch = trainer._train_step, trainer._train_epoch

        def with_step(net: torch.nn.Module, step: Step, metrics: EpochMetrics) -> torch.Tensor:
            self.step = (trainer.progress.epoch, step.number)
            return train_step(net, step, metrics)

        def with_end(net: torch.nn.Module, stop: StopRequest) -> dict[str, Any] | None:
            metrics = train_epoch(net, stop)
            self.step = None
            return metrics

        trainer._train_step = with_step  # type: ignore[method-assign]
        trainer._train_epoch = with_end  # type: ignore[method-assign]


def gate_trainer(store: Store, folder: Path, config: TrainConfig, loader_config: LoaderConfig) -> Trainer:
    """A gate that learns from the scores of out-of-fold streams."""
    trainer = stream_trainer(store, folder, config, loader_config=loader_config)
    data = trainer.loader.data
    streams = [Stream(config.stream(one, len(data.classes))) for _ in range(3) for one in BOTH]
    gate = GatingConvNet(config=config.gate_net(len(data.classes), streams[0].tap_channels))
    fold_of = {video_id: number for number, ids in enumerate(data.folds) for video_id in ids}
    task = GateTask(
        gate, *streams[:2], out_of_fold=[(streams[2], streams[3]), (streams[4], streams[5])], fold_of=fold_of
    )
    stage = dataclasses.replace(trainer.stage, schedule=config.gate)
    return Trainer(task, trainer.loader, stage, on_event=lambda event: None)


@pytest.mark.parametrize("kind", ["stream", "gate"])
def test_the_device_is_read_at_logged_steps_alone(
    labelled_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("gating.training.loop.LOGGED_STEPS", 2)
    schedule = dataclasses.replace(quick().rgb, batch=2, optimizer="sgd", clip_norm=1.0)
    config = quick(rgb=schedule, gate=schedule, gate_data="out-of-fold", stream_folds=2)
    micro = LoaderConfig(micro_batch=1)
    if kind == "gate":
        trainer = gate_trainer(labelled_store, tmp_path, config, micro)
    else:
        trainer = stream_trainer(labelled_store, tmp_path, config, loader_config=micro)
    assert trainer.steps == 6
    reads = DeviceReads(monkeypatch)
    reads.follow(trainer)
    trainer.fit()
    where = {step: text for step, text in reads.noted if step is not None}
    # Steps 0 and 3 are logged; after step 5 the epoch ends.
    assert sorted(where) == [(epoch, step) for epoch in (0, 1) for step in (0, 3, 5)], where


def test_metrics_do_not_depend_on_the_micro_batches(labelled_store: Store, tmp_path: Path) -> None:
    # Batch statistics depend on the micro-batch, and dropout on the order of its draws.
    config = quick(rgb_dropout=0.0, flow_dropout=0.0)
    logged: list[list[Event]] = []
    for micro in (4, 3):
        events: list[Event] = []
        options: dict[str, Any] = {"loader_config": LoaderConfig(micro_batch=micro)}
        trainer = stream_trainer(
            labelled_store, tmp_path / str(micro), config, on_event=events.append, **options
        )
        freeze_statistics(trainer)
        trainer.fit()
        logged.append([event for event in events if event["event"] == "step"])
    for one, other in zip(*logged, strict=True):
        assert one["top1"] == other["top1"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)  # float32 losses of other batches


def test_a_second_interrupt_stops_at_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def interrupt_twice(stop: StopRequest) -> None:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)

    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        interrupt_twice(stop)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_stop_is_logged_as_paused_once_all_is_saved(labelled_store: Store, tmp_path: Path) -> None:
    events: list[Event] = []
    interrupt = InterruptedAt(0, 1)

    def on_event(event: Event) -> None:
        events.append(event)
        interrupt(event)
        if event["event"] == "paused":
            assert load_checkpoint(tmp_path / "last.pt")["position"] == event["position"] == 8

    with pytest.raises(KeyboardInterrupt):
        stream_trainer(labelled_store, tmp_path, quick(), on_event=on_event).fit()
    assert [event["event"] for event in events] == ["step", "step", "paused"]


def test_micro_batches_of_unequal_size_add_up_to_the_whole_batch(
    labelled_store: Store, tmp_path: Path
) -> None:
    # Batch statistics depend on the micro-batch: with all of them fixed, only rounding is left.
    config = quick(rgb_dropout=0.0, flow_dropout=0.0)
    found = []
    for micro in (4, 3):
        trainer = stream_trainer(
            labelled_store, tmp_path / str(micro), config, loader_config=LoaderConfig(micro_batch=micro)
        )
        freeze_statistics(trainer)
        trainer.fit()
        found.append(weights(trainer))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def freeze_statistics(trainer: Trainer) -> None:
    stream = trainer.task.learner
    train = stream.train

    def with_fixed_norms(mode: bool = True) -> Any:
        train(mode)
        for module in stream.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return stream

    stream.train = with_fixed_norms  # type: ignore[method-assign]
    task_train = trainer.task.train
    trainer.task.train = lambda mode=True: (task_train(mode), with_fixed_norms(mode))[0]  # type: ignore[method-assign]


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
import flowkit
from gating.distributed import join_process_group
from tests.gating.training.test_loop import freeze_statistics, stream_trainer
from tests.make.labelled import quick

torch.set_num_threads(1)
with flowkit.open(sys.argv[1]) as store, join_process_group("cpu") as process_group:
    config = quick(rgb_dropout=0.0, flow_dropout=0.0)
    trainer = stream_trainer(store, Path(sys.argv[2]), config)
    trainer = type(trainer)(
        trainer.task,
        type(trainer.loader)(
            trainer.loader.data, config, trainer.task.learner.backbone.inputs, process_group=process_group,
            loader_config=trainer.loader.loader_config,
        ),
        trainer.stage,
        on_event=lambda event: None,
    )
    freeze_statistics(trainer)
    trainer.fit()
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_the_same_effective_batch(
    labelled_store: Store, labelled_path: Path, tmp_path: Path
) -> None:
    alone = stream_trainer(labelled_store, tmp_path / "one", quick(rgb_dropout=0.0, flow_dropout=0.0))
    freeze_statistics(alone)
    alone.fit()
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, str(labelled_path), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    both = load_checkpoint(tmp_path / "two" / "best.pt")["network"]
    for name, value in weights(alone).items():
        torch.testing.assert_close(both[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_events_are_plain_values(labelled_store: Store, tmp_path: Path) -> None:
    events: list[Event] = []
    stream_trainer(labelled_store, tmp_path, quick(), on_event=events.append).fit()
    assert [event["event"] for event in events].count("epoch") == 2
    assert json.loads(json.dumps(events)) == events
