"""One trial: streams, out-of-fold streams, gate, scores and comparison, for one split (or fold) and one seed.

`gating.run_folder` has the layout of its folder.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flowkit.datasets.splits import write_split_file
from gating.config import GATING, Extension, LoaderConfig, Modality, StageKind
from gating.data.balance import class_weights
from gating.data.loader import BOTH, ClipLoader
from gating.data.partition import PARTS, Part, TrialData
from gating.distributed import ProcessGroup
from gating.errors import CheckpointError
from gating.evaluation.comparison import SplitKind, TrialComparison
from gating.evaluation.scores import Networks
from gating.evaluation.trial_scores import Evaluation
from gating.events import OnEvent
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream, build_stream, check_same_features
from gating.run_folder import (
    best_checkpoint,
    is_trial,
    out_of_fold_stage,
    read_trial,
    split_path,
    stage_kind,
    trial_folder,
    write_trial,
)
from gating.train_config import TrainConfig
from gating.training.checkpoint import (
    StageCheckpoints,
    StageProgress,
    differences,
    load_network,
    load_stage,
)
from gating.training.loop import Trainer, validate
from gating.training.tasks import GateTask, Stage, StreamTask, Task

# Difference of top-1 on training and validation clips from which a stream counts as overfitted: 10 points.
OVERFITTED = 0.1
_COMPARED = 512
# Parts that the streams' checkpoints depend on: not those of the gate.
_STREAMS_SEE: tuple[Part, ...] = ("learn", "validation", "test")
# The choices that decide what a stream learns; the gate's stage depends on all of them.
_OF_STREAMS = (
    *("backbone", "partial_bn", "tap", "segments", "stack", "short", "augment", "field", "amp", "seed"),
    *("class_weights", "sampling", "patience", "extends"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialOptions:
    """Options of a trial, without effect on the trained weights.

    Parameters
    ----------
    folder : Path
        Of the trial.
    process_group : ProcessGroup
        This process, and the others of the run.
    loader : LoaderConfig
        Workers and micro-batches.
    resume : bool
        Go on with unfinished stages.
    checkpoint_seconds : float
        Between checkpoints within an epoch.
    cache : Path or None
        Folder of frozen backbones' features; None is beside the store, or the run's where that cannot be.
    on_event : callable
        Receives each event.
    """

    folder: Path
    process_group: ProcessGroup
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
    resume: bool = False
    checkpoint_seconds: float = 300.0
    cache: Path | None = None
    on_event: OnEvent


class Trial:
    """Training and comparison; each step that was done before is loaded."""

    def __init__(self, data: TrialData, config: TrainConfig, options: TrialOptions) -> None:
        self.data, self.config, self.options = data, config, options
        self.device = options.process_group.device
        inputs = self._new_stream(config.modalities[0]).backbone.inputs
        self.batches = ClipLoader(
            data, config, inputs, process_group=options.process_group, loader_config=options.loader
        )

    def check(self, *, networks: bool = True) -> None:
        """Go the way of `run` up to its first step, and write nothing.

        Parameters
        ----------
        networks
            Build the networks with their weights and read a batch, too; else only the stages' checkpoints
            are compared with configuration and data.

        Raises
        ------
        CheckpointError, WeightsError, WeightsUnavailableError, InvalidParameterError, InputError
            As `run`.
        """
        left: list[tuple[Stage, Sequence[Modality]]] = []
        for stage, modalities in self._stages():
            checkpoints = StageCheckpoints(stage, self.options.process_group)
            if not checkpoints.check():
                left.append((stage, modalities))
            if self.config.extends is not None and not checkpoints.kept():
                self._parent_stage(stage, self.config.extends)
        if not networks:
            return
        streams = [self._new_stream(one, weights=True) for one in self.config.modalities]
        check_same_features(*streams)
        if self.config.fusion == GATING:
            self._new_gate(streams[0])
        for stage, modalities in left[:1]:
            self._read_first_batch(stage, modalities)

    def _stages(self) -> Iterator[tuple[Stage, Sequence[Modality]]]:
        """Yield every stage and what it reads, in the order of training."""
        yield from ((self._stream_stage(one), (one,)) for one in self.config.modalities)
        for fold in range(len(self.data.folds)):
            yield from ((self._stream_stage(one, without=fold), (one,)) for one in self._of_pairs)
        if self.config.fusion == GATING:
            yield self._gate_stage(), BOTH
            if self.config.all_clips:
                yield from ((self._gate_stage(without=fold), BOTH) for fold in range(len(self.data.folds)))

    def _read_first_batch(self, stage: Stage, modalities: Sequence[Modality]) -> None:
        schedule = stage.schedule
        steps = self.batches.training(
            stage.train_ids,
            stage.augment,
            modalities,
            batch=schedule.batch,
            epoch=0,
            segments=schedule.segments,
        )
        step = next(steps, None)  # a process of more than there are clips has none
        if step is not None:
            next(step.batches)

    def run(self, *, kind: SplitKind = "subset") -> TrialComparison:
        """Train the missing stages, score the clips, and compare every fusion on the test part."""
        if not is_trial(self.options.folder):
            self._write_record()
        networks = self.trained()
        # The checkpoints have now been checked to be of this configuration and these data.
        self._write_record()
        return Evaluation(
            networks=networks,
            out_of_fold=lambda: self._out_of_fold_networks(networks),
            batches=self.batches,
            folder=self.options.folder,
        ).run(kind)

    def trained(self) -> Networks:
        """Return both streams and the gate, trained."""
        streams = {one: self._stream(one) for one in self.config.modalities}
        check_same_features(*streams.values())
        if self.config.fusion != GATING:
            return Networks(flow=streams.get("flow"), rgb=streams.get("rgb"))
        if self.config.gate_data == "same":
            for stream in streams.values():
                self._warn_of_overfitting(stream)
        flow, rgb = streams["flow"], streams["rgb"]
        return Networks(flow=flow, rgb=rgb, gate=self._gate(flow, rgb))

    def out_of_fold(self) -> list[dict[Modality, Stream]]:
        """Return the out-of-fold streams: those trained without one fold, flow first."""
        return [
            {one: self._stream(one, without=fold) for one in self._of_pairs}
            for fold in range(len(self.data.folds))
        ]

    @property
    def _of_pairs(self) -> list[Modality]:
        return [one for one in BOTH if one in self.config.modalities]

    def _out_of_fold_networks(self, final: Networks) -> Iterator[Networks]:
        """Yield the networks that did not learn from each fold; where every clip trains, with a gate."""
        for fold, streams in enumerate(self.out_of_fold()):
            if self.config.all_clips and final.gate is not None:
                gate = self._gate(final.streams["flow"], final.streams["rgb"], without=fold)
                yield dataclasses.replace(final, gate=gate, scorers=(streams["flow"], streams["rgb"]))
            else:
                yield Networks(flow=streams.get("flow"), rgb=streams.get("rgb"))

    def _stream(self, modality: Modality, *, without: int | None = None) -> Stream:
        torch.manual_seed(self.config.seed)
        stream = self._new_stream(modality, weights=True)
        stage = self._stream_stage(modality, without=without)
        self._fit(StreamTask(stream, class_weights=self._class_weights(stage.train_ids)), stage)
        return stream

    def _class_weights(self, ids: Sequence[str]) -> torch.Tensor | None:
        if self.config.class_weights == "none":
            return None
        weights = class_weights([self.data.labels[k] for k in ids], len(self.data.classes))
        return torch.from_numpy(weights).float().to(self.device)

    def _stream_stage(self, modality: Modality, *, without: int | None = None) -> Stage:
        left_out = set() if without is None else set(self.data.folds[without])
        name = modality if without is None else out_of_fold_stage(without, modality)
        train_ids = tuple(k for k in self.data.train if k not in left_out)
        values = self.config.to_json()
        decisive = (*_OF_STREAMS, modality, f"{modality}_weights")
        identity = {name: values[name] for name in decisive if name in values}
        identity |= {"dropout": self.config.stream(modality, len(self.data.classes)).dropout_rate}
        if modality == "flow":
            identity |= {"flow_scales": values["flow_scales"]}
        return self._stage(name, modality, train_ids=train_ids, identity=identity)

    def _gate(self, flow: Stream, rgb: Stream, *, without: int | None = None) -> GatingConvNet:
        data = self.data
        out_of_fold = [(streams["flow"], streams["rgb"]) for streams in self.out_of_fold()]
        torch.manual_seed(self.config.seed)
        gate = self._new_gate(flow)
        fold_of = {k: number for number, ids in enumerate(data.folds) for k in ids}
        stage = self._gate_stage(without=without)
        weights = self._class_weights(stage.train_ids)
        task = GateTask(gate, flow, rgb, out_of_fold=out_of_fold, fold_of=fold_of, class_weights=weights)
        self._fit(task, stage)
        return gate

    def _gate_stage(self, *, without: int | None = None) -> Stage:
        own = ("preset", "validation_share", "test_segments", "test_crops", "fusion")
        identity = {name: value for name, value in self.config.to_json().items() if name not in own}
        name = "gate" if without is None else out_of_fold_stage(without, "gate")
        left_out = set() if without is None else set(self.data.folds[without])
        train_ids = tuple(k for k in self.data.gate if k not in left_out)
        return self._stage(name, "gate", train_ids=train_ids, identity=identity)

    def _warn_of_overfitting(self, stream: Stream) -> None:
        """Warn where a stream is overfitted to its own clips, from whose errors the gate is to learn."""
        task, precision = StreamTask(stream), self.batches.precision
        own, other = (
            validate(task, self.batches, ids[:: 1 + len(ids) // _COMPARED], precision=precision)["top1"]
            for ids in (self.data.train, self.data.validation)
        )
        if own - other > OVERFITTED and self.options.process_group.is_main:
            warnings.warn(
                f"the {stream.config.modality} stream has {100 * own:.1f} % of its own training clips right, "
                f"{100 * other:.1f} % of the validation clips: with gate data 'same' the gate sees hardly an "
                "error to learn from; --gate-data out-of-fold shows it held-out scores",
                RuntimeWarning,
                stacklevel=2,
            )

    def _fit(self, task: Task, stage: Stage) -> None:
        extends = self.config.extends
        checkpoints = StageCheckpoints(stage, self.options.process_group)
        started = bool(checkpoints.kept())
        self.options.process_group.barrier()  # all have looked before one writes
        if extends is not None and not started:
            content = self._parent_stage(stage, extends)
            load_network(task.learner, content, source=best_checkpoint(self._parent(extends), stage.name))
            if stage_kind(stage.name) in extends.kept:
                checkpoints.save_best(task.learner, StageProgress(best_epoch=content["epoch"]))
                checkpoints.finish(task.learner)
        Trainer(task, self.batches, stage, on_event=self.options.on_event).fit()

    def _parent(self, extends: Extension) -> Path:
        """Return the folder of the trial whose weights this one starts from."""
        return trial_folder(Path(extends.run), self.data.split, self.data.part, self.config.seed)

    def _parent_stage(self, stage: Stage, extends: Extension) -> dict[str, Any]:
        """Return the best epoch of a stage of the trial that this one goes on from, of the same data."""
        folder = self._parent(extends)
        if found := differences(read_trial(folder).data, self.data.record()):
            raise CheckpointError(
                f"{folder} was trained on other data, and a run goes on with the same clips and flow: "
                f"{'; '.join(found[:6])} (there: {extends.run}; here: the store and options given)"
            )
        path = best_checkpoint(folder, stage.name)
        content = load_stage(path) if path.is_file() else None
        if content is None or not content["finished"]:
            raise CheckpointError(
                f"{path} is absent or not finished, and the stage {stage.name!r} is to go on from it; take "
                f"the configuration of {extends.run}, or train anew"
            )
        return content

    def _stage(
        self, name: str, kind: StageKind, *, train_ids: Sequence[str], identity: Mapping[str, object]
    ) -> Stage:
        augment = self.config.augment if kind == "gate" else self.config.stream_augment(kind)
        return Stage(
            name=name,
            folder=self.options.folder / name,
            schedule=self.config.schedule(kind),
            augment=augment,
            train_ids=train_ids,
            validation_ids=self.data.validation,
            identity={
                "config": identity,
                "data": self.data.record(PARTS if kind == "gate" else _STREAMS_SEE),
            },
            patience=self.config.patience,
            resume=self.options.resume,
            checkpoint_seconds=self.options.checkpoint_seconds,
        )

    def _new_gate(self, flow: Stream) -> GatingConvNet:
        config = self.config.gate_net(len(self.data.classes), flow.tap_channels)
        return GatingConvNet(config=config).to(self.device)

    def _new_stream(self, modality: Modality, *, weights: bool = False) -> Stream:
        config = self.config.stream(modality, len(self.data.classes))
        stream = build_stream(config) if weights else Stream(config)
        return stream.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _write_record(self) -> None:
        if self.options.process_group.is_main:
            if self.data.source is not None:
                write_split_file(split_path(self.options.folder), self.data.source)
            write_trial(self.options.folder, self.config, self.data.record())
