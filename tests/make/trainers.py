"""A stage's trainer on the small labelled store, and its weights."""

from __future__ import annotations

from pathlib import Path

import torch

from flowkit.store.read.store import Store
from gating.config import LoaderConfig, Modality
from gating.data.loader import ClipLoader
from gating.data.partition import plan_trial
from gating.distributed import ProcessGroup
from gating.events import OnEvent
from gating.models.streams import Stream
from gating.train_config import TrainConfig
from gating.training.loop import Trainer
from gating.training.tasks import Stage, StreamTask
from tests.make.labelled import five_folds


def stream_trainer(
    store: Store,
    folder: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    checkpoint_seconds: float = 300.0,
    on_event: OnEvent = lambda event: None,
    modality: Modality = "rgb",
    loader_config: LoaderConfig = LoaderConfig(),  # noqa: B008 (frozen)
) -> Trainer:
    data = plan_trial(store, five_folds(store), config, fold="0")
    torch.manual_seed(config.seed)
    stream = Stream(config.stream(modality, len(data.classes)))
    loader = ClipLoader(
        data,
        config,
        stream.backbone.inputs,
        process_group=ProcessGroup(torch.device("cpu")),
        loader_config=loader_config,
    )
    stage = Stage(
        name=modality,
        folder=folder,
        schedule=config.schedule(modality),
        augment=config.stream_augment(modality),
        train_ids=data.train,
        validation_ids=data.validation,
        identity={"config": config.to_json(), "data": data.record()},
        patience=config.patience,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
    )
    return Trainer(StreamTask(stream), loader, stage, on_event=on_event)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.task.learner.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
