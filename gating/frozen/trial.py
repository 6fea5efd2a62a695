"""One trial of heads alone: features of all clips, heads, out-of-fold heads, gate, and the comparison.

Its folder is that of `gating.trial.Trial`: a stage's `best.pt` has the head without the backbone, which the
weights' package or file gives again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from flowkit.datasets.splits import write_split_file
from gating.config import FIXED_WEIGHTS, GATING, GateConfig, Modality
from gating.data.loader import BOTH, ClipLoader
from gating.data.partition import TrialData
from gating.evaluation.comparison import SplitKind, TrialComparison, compare_fusions
from gating.evaluation.out_of_fold import compare_out_of_fold
from gating.evaluation.results import write_comparison
from gating.evaluation.scores import ClipScores
from gating.frozen.features import (
    ClipFeatures,
    FeatureCache,
    choices_of,
    clip_features_of,
    computed_features,
    features_folder,
    pooled,
)
from gating.frozen.fit import FitChoices, Fits
from gating.frozen.heads import Head
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream, build_stream, check_same_features
from gating.run_folder import out_of_fold_stage, scores_path, split_path, write_trial
from gating.train_config import TrainConfig
from gating.training.checkpoint import StageCheckpoints, StageProgress
from gating.training.tasks import Stage
from gating.trial import TrialOptions

CLIPS_AT_ONCE = 4
"""Of whose frames and flow memory is taken."""

_OF_HEADS = (
    *("backbone", "tap", "test_segments", "stack", "short", "augment", "field", "head", "flow_input"),
    *("rgb_weights", "flow_weights", "seed", "class_weights"),
)
_OF_GATE = ("gate", "net", "stream_folds")


class FrozenTrial:
    """Heads, gate and comparison of one trial. Features are kept; the fits take seconds and are made anew."""

    def __init__(self, data: TrialData, config: TrainConfig, options: TrialOptions) -> None:
        self.data, self.config, self.options = data, config, options
        self.device = options.process_group.device
        self._streams: dict[Modality, Stream] = {}
        self._modalities = [one for one in BOTH if one in config.modalities]

    def check(self, *, networks: bool = True) -> None:
        """Go the way of `run` up to its first step, and write nothing.

        Parameters
        ----------
        networks
            Build the networks with their weights, too.

        Raises
        ------
        CheckpointError, WeightsError, WeightsUnavailableError, InvalidParameterError, InputError
            As `run`.
        """
        for stage in self._stages():
            StageCheckpoints(stage, self.options.process_group).check()
        if not networks:
            return
        check_same_features(*self._built_streams().values())
        if self.config.fusion == GATING:
            self._gate_net()

    def _stages(self) -> Iterator[Stage]:
        yield from (self._stage(one) for one in self._modalities)
        for fold in range(len(self.data.folds)):
            yield from (self._stage(one, without=fold) for one in self._modalities)
        if self.config.fusion == GATING:
            yield self._stage("gate")

    def run(self, *, kind: SplitKind = "subset") -> TrialComparison:
        """Fit heads and gate, score the clips, and compare every fusion on the test part."""
        data = self.data
        self._write_record()
        clips = self._features((*data.train, *data.test))
        test, held_out = self._fits().scores(pooled(clips))
        for part, scores in (("test", test), ("validation", held_out), ("fit", held_out)):
            if self.options.process_group.is_main:
                scores.save(scores_path(self.options.folder, part))
        comparison = self._compared(test, held_out, kind)
        if self.options.process_group.is_main:
            write_comparison(self.options.folder, comparison)
        return comparison

    def _compared(self, test: ClipScores, held_out: ClipScores, kind: SplitKind) -> TrialComparison:
        data, seed = self.data, self.config.seed
        if self.config.all_clips:
            return compare_out_of_fold(held_out, data.folds, split=data.split, seed=seed)
        return compare_fusions(
            test,
            fit_on=held_out,
            validation=held_out,
            split=data.split,
            part=data.part,
            kind=kind,
            seed=seed,
        )

    def _features(self, ids: Sequence[str]) -> ClipFeatures:
        data, config, options = self.data, self.config, self.options
        streams = self._built_streams()
        folder = options.cache or features_folder(data.store) or options.folder.parent.parent / "features"
        caches = {
            one: FeatureCache(
                folder=folder, modality=one, choices=choices_of(data.store, config, one, stream)
            )
            for one, stream in streams.items()
        }
        for stream in streams.values():
            stream.backbone.fuse_norms()
        inputs = streams[self._modalities[0]].backbone.inputs
        loader = dataclasses.replace(options.loader, micro_batch=CLIPS_AT_ONCE)
        batches = ClipLoader(data, config, inputs, process_group=options.process_group, loader_config=loader)

        def compute(missing: Sequence[str], lacking: Sequence[Modality]) -> ClipFeatures:
            def report(done: int) -> None:
                self._log("features", done=done, clips=len(missing))

            needed = {one: streams[one] for one in lacking}
            return computed_features(needed, batches, missing, on_clips=report)

        return clip_features_of(caches, compute, ids, keep=options.process_group.is_main)

    def _fits(self) -> Fits:
        config = self.config
        choices = FitChoices(
            seed=config.seed,
            gate=self._gate_config() if config.fusion == GATING else None,
            schedule=config.gate,
            segments=config.test_segments,
            balanced=config.class_weights == "balanced",
        )
        return Fits(self.data, choices, device=self.device, on_head=self._keep_head, on_gate=self._keep_gate)

    def _keep_head(self, head: Head, modality: Modality, without: int | None) -> None:
        stage, stream = self._stage(modality, without=without), self._built_streams()[modality]
        head.put_into(stream.classifier)
        self._keep(stage, stream.learner)
        self._log("fitted", stage=stage.name, penalty=head.penalty)

    def _keep_gate(self, gate: GatingConvNet, share: float) -> None:
        self._keep(self._stage("gate"), gate)
        # The scale of its activation and the fallback follow the pair that it was fitted at.
        self._write_record(fixed=gate.config.fixed)
        self._log("fitted", stage="gate", share=share)

    def _gate_config(self) -> GateConfig:
        tap_channels = self._built_streams()["flow"].tap_channels
        return self.config.gate_net(len(self.data.classes), tap_channels)

    def _gate_net(self) -> GatingConvNet:
        return GatingConvNet(config=self._gate_config())

    def _built_streams(self) -> dict[Modality, Stream]:
        if not self._streams:
            for one in self._modalities:
                stream = build_stream(self.config.stream(one, len(self.data.classes)))
                stream = stream.freeze().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                self._streams[one] = stream
        return self._streams

    def _stage(self, kind: Modality | str, *, without: int | None = None) -> Stage:
        name = kind if without is None else out_of_fold_stage(without, kind)
        left_out = set() if without is None else set(self.data.folds[without])
        # Each fit finds its own pair of fixed weights.
        net = dataclasses.replace(self.config.net, fixed=FIXED_WEIGHTS)
        values = dataclasses.replace(self.config, net=net).to_json()
        choices = (*_OF_HEADS, *(_OF_GATE if kind == "gate" else ()))
        identity = {name: values.get(name) for name in choices}
        return Stage(
            name=name,
            folder=self.options.folder / name,
            schedule=self.config.gate,
            augment=self.config.augment,
            train_ids=tuple(k for k in self.data.train if k not in left_out),
            validation_ids=(),
            identity={"config": identity, "data": self.data.record()},
        )

    def _keep(self, stage: Stage, learner: torch.nn.Module) -> None:
        checkpoints = StageCheckpoints(stage, self.options.process_group)
        checkpoints.save_best(learner, StageProgress(best_epoch=0))
        checkpoints.finish(learner)

    def _log(self, event: str, **values: object) -> None:
        if self.options.process_group.is_main:
            self.options.on_event({"event": event, **values})

    def _write_record(self, *, fixed: tuple[float, float] | None = None) -> None:
        net = self.config.net if fixed is None else dataclasses.replace(self.config.net, fixed=fixed)
        if self.options.process_group.is_main:
            if self.data.source is not None:
                write_split_file(split_path(self.options.folder), self.data.source)
            config = dataclasses.replace(self.config, net=net)
            write_trial(self.options.folder, config, self.data.record())
