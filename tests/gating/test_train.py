"""The loop: what it refuses, what an interruption leaves, and that going on changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InputError
from flowkit.store.reader import Store
from gating.batches import Batches, Loading
from gating.checkpoint import load_checkpoint
from gating.config import Modality
from gating.data import plan_trial
from gating.errors import CheckpointError, TrainingError
from gating.models.streams import Stream
from gating.places import Place
from gating.stage_files import Stage
from gating.tasks import StreamTask
from gating.train import Event, Trainer
from gating.train_config import TrainConfig
from tests.labelled import five_folds, quick

ROOT = Path(__file__).resolve().parents[2]


def stream_trainer(
    store: Store,
    folder: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    tell: Callable[[Event], None] = lambda event: None,
    modality: Modality = "rgb",
    loading: Loading = Loading(),  # noqa: B008 (frozen)
) -> Trainer:
    data = plan_trial(store, five_folds(store), config, fold="0")
    torch.manual_seed(config.seed)
    stream = Stream(config.stream(modality, len(data.classes)))
    place = Place(torch.device("cpu"))
    batches = Batches(data, config, stream.backbone.inputs, place=place, loading=loading)
    stage = Stage(
        name=modality,
        folder=folder,
        schedule=config.schedule(modality),
        augment=config.stream_augment(modality),
        learn=data.learn,
        validation=data.validation,
        identity={"config": config.to_json(), "data": data.record()},
        resume=resume,
        checkpoint_seconds=300.0,
    )
    return Trainer(StreamTask(stream), batches, stage, tell=tell)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.task.learner.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class InterruptedAt:
    """Sends this process a Ctrl-C when a step is told of."""

    def __init__(self, epoch: int, step: int) -> None:
        self.place = (epoch, step)

    def __call__(self, event: Event) -> None:
        if event["event"] == "step" and (event["epoch"], event["step"]) == self.place:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("loading", [Loading(), Loading(micro_batch=3)], ids=["whole", "micro"])
def test_a_resumed_stage_ends_with_the_weights_of_an_uninterrupted_one(
    labelled_store: Store, tmp_path: Path, loading: Loading
) -> None:
    config = quick()
    whole = stream_trainer(labelled_store, tmp_path / "whole", config, loading=loading)
    whole.fit()
    first = stream_trainer(
        labelled_store, tmp_path / "cut", config, tell=InterruptedAt(1, 1), loading=loading
    )
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    left = load_checkpoint(tmp_path / "cut" / "last.pt")
    assert (left["epoch"], left["position"]) == (1, 8)
    torch.manual_seed(99)  # where the generator happens to be must not matter
    second = stream_trainer(labelled_store, tmp_path / "cut", config, resume=True, loading=loading)
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
        stream_trainer(labelled_store, tmp_path / "cut", config, tell=InterruptedAt(0, 2)).fit()
    second = stream_trainer(labelled_store, tmp_path / "cut", config, resume=True, tell=events.append)
    second.fit()
    assert [event["event"] for event in events][:2] == ["resumed", "epoch"]
    assert equal(weights(whole), weights(second))


def test_a_finished_stage_is_loaded_not_trained(labelled_store: Store, tmp_path: Path) -> None:
    config = quick()
    events: list[Event] = []
    done = stream_trainer(labelled_store, tmp_path, config)
    done.fit()
    again = stream_trainer(labelled_store, tmp_path, config, tell=events.append)
    again.fit()
    assert [event["event"] for event in events] == ["skipped"]
    assert equal(weights(done), weights(again))
    assert not (tmp_path / "last.pt").exists()


def test_an_unfinished_stage_wants_resume(labelled_store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stream_trainer(labelled_store, tmp_path, quick(), tell=InterruptedAt(0, 0)).fit()
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
    save = trainer.files.save_last

    def save_then_poison(*values: Any) -> None:
        save(*values)
        with torch.no_grad():
            trainer.task.learner.classifier.bias.fill_(math.nan)  # type: ignore[union-attr,operator]

    trainer.files.save_last = save_then_poison  # type: ignore[assignment, method-assign]
    with pytest.raises(TrainingError, match=r"stage 'rgb' is nan at epoch 1, step 0.*last\.pt and best\.pt"):
        trainer.fit()
    kept = load_checkpoint(tmp_path / "last.pt")
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["network"].values())


def test_micro_batches_of_unequal_size_add_up_to_the_whole_batch(
    labelled_store: Store, tmp_path: Path
) -> None:
    # Batch statistics depend on the micro-batch: with all of them fixed, only rounding is left.
    config = quick(rgb_dropout=0.0, flow_dropout=0.0)
    found = []
    for micro in (4, 3):
        trainer = stream_trainer(
            labelled_store, tmp_path / str(micro), config, loading=Loading(micro_batch=micro)
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
    trainer.task.train = lambda mode=True: (task_train(mode), with_fixed_norms(mode))[0]  # type: ignore[method-assign,assignment]


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
import flowkit
from gating.places import joined
from tests.gating.test_train import freeze_statistics, stream_trainer
from tests.labelled import quick

torch.set_num_threads(1)
with flowkit.open(sys.argv[1]) as store, joined("cpu") as place:
    config = quick(rgb_dropout=0.0, flow_dropout=0.0)
    trainer = stream_trainer(store, Path(sys.argv[2]), config)
    trainer = type(trainer)(
        trainer.task,
        type(trainer.batches)(
            trainer.batches.data, config, trainer.task.learner.backbone.inputs, place=place,
            loading=trainer.batches.loading,
        ),
        trainer.stage,
        tell=lambda event: None,
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


def test_a_store_without_labels_cannot_be_trained_on(labelled_store: Store) -> None:
    class Unlabelled:
        path, labels, options = labelled_store.path, (), labelled_store.options

        def __iter__(self) -> Any:
            return iter(labelled_store)

        def column(self, name: str) -> list[str]:
            return [""] * len(labelled_store)

    with pytest.raises(InputError, match=r"has no labels.*flowkit relabel"):
        plan_trial(Unlabelled(), five_folds(labelled_store), quick(), fold="0")  # type: ignore[arg-type]


def test_events_are_plain_values(labelled_store: Store, tmp_path: Path) -> None:
    events: list[Event] = []
    stream_trainer(labelled_store, tmp_path, quick(), tell=events.append).fit()
    assert [event["event"] for event in events].count("epoch") == 2
    assert json.loads(json.dumps(events)) == events
