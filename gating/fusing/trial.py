"""One trial of two streams that other tools computed: one split, or fold, and one seed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from flowkit.datasets import Split
from flowkit.errors import InputError
from flowkit.validate import check_at_least, check_range
from gating.config import MAX_FOLDS, GateConfig, Modality, Schedule, gate_preset
from gating.data.partition import held_out_folds
from gating.evaluation.comparison import SplitKind, TrialComparison, compare_fusions
from gating.evaluation.results import write_comparison
from gating.evaluation.scores import ClipScores
from gating.events import OnEvent
from gating.frozen.clips import StreamClips, TwoStreams
from gating.frozen.fit import FitChoices, Fits
from gating.frozen.heads import Head
from gating.fusing.gate_maps import GateMaps
from gating.fusing.joined import JoinedStreams
from gating.fusions import FUSIONS, build_fusion
from gating.models.gate import GatingConvNet
from gating.run_folder import out_of_fold_stage, scores_path
from gating.train_config import train_preset

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseConfig:
    """All choices that decide the result of `gating.fuse`; the defaults are those of preset `frozen`.

    Parameters
    ----------
    net : GateConfig
        The gate; its `num_classes` and `tap_channels` follow the data.
    gate : Schedule
        Of the gate.
    stream_folds : int
        Parts of the training clips, >= 2: heads give scores of each that did not learn from it, and
        so do gates.
    seed : int
        Of everything random, >= 0.
    """

    net: GateConfig = dataclasses.field(default_factory=lambda: gate_preset("frozen", 2))
    gate: Schedule = dataclasses.field(default_factory=lambda: train_preset("frozen").gate)
    stream_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers that are of no part."""
        check_range("stream_folds", self.stream_folds, 2, MAX_FOLDS)
        check_at_least("seed", self.seed, 0)

    def to_json(self) -> dict[str, object]:
        """Return all choices as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseParts:
    """The parts of one trial, as `gating.frozen.fit.ClipParts` has them."""

    split: str
    part: str
    classes: tuple[str, ...]
    labels: dict[str, int]
    groups: dict[str, str]
    train: tuple[str, ...]
    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]

    def lines(self) -> Iterator[str]:
        """Yield lines on the clips' numbers."""
        groups = len({self.groups[k] for k in (*self.train, *self.test)})
        yield (
            f"{len(self.train)} clips to fit on, in {len(self.folds)} folds, {len(self.test)} tested; "
            f"{groups} groups"
        )
        counts = [Counter(self.labels[k] for k in ids) for ids in (self.train, self.test)]
        rare = min(range(len(self.classes)), key=lambda index: counts[0][index])
        yield f"{len(self.classes)} classes; fewest clips to fit on: {self.classes[rare]}, {counts[0][rare]}"


def plan_parts(joined: JoinedStreams, split: Split, config: FuseConfig, *, fold: str | None) -> FuseParts:
    """Divide the clips of a split for one trial.

    Raises
    ------
    InputError
        There are fewer than two clips to fit on, or a class has none where a head is fitted.
    """
    train, test = split.train_test(fold)
    train = (*train, *split.validation)
    if len(train) < 2:
        raise InputError(f"the split {split.name!r} has {len(train)} clips to fit on, expected 2 or more")
    groups = {k: split.groups.get(k, k) for k in (*train, *test)}
    index = {name: number for number, name in enumerate(joined.classes)}
    parts = FuseParts(
        split=split.name,
        part=fold or "test",
        classes=joined.classes,
        labels={k: index[joined.labels[k]] for k in groups},
        groups=groups,
        train=train,
        test=tuple(test),
        folds=held_out_folds(
            {k: joined.labels[k] for k in train}, groups, count=config.stream_folds, seed=config.seed + 1
        ),
    )
    if not (joined.rgb.gives_scores and joined.flow.gives_scores):
        _check_learnable(parts)
    return parts


def _check_learnable(parts: FuseParts) -> None:
    present = set(parts.labels.values())
    for left_out in ((), *parts.folds):
        there = {parts.labels[k] for k in parts.train if k not in set(left_out)}
        if missing := [parts.classes[k] for k in sorted(present - there)]:
            raise InputError(
                f"{len(missing)} classes have no clip to fit a head on once whole groups are kept aside: "
                f"{missing[:_NAMED]}; add clips, or give more groups"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseTrial:
    """The fits of one trial and its comparison.

    Parameters
    ----------
    joined, maps
        The clips, and what the gate reads, or None.
    parts, kind
        Of the clips, and the kind of their split.
    config
        With the trial's seed.
    folder
        Receives the scores and the comparison.
    device
        Of the gate.
    on_event
        Receives "fitted".
    """

    joined: JoinedStreams
    maps: GateMaps | None
    parts: FuseParts
    kind: SplitKind
    config: FuseConfig
    folder: Path
    device: torch.device
    on_event: OnEvent

    def run(self) -> TrialComparison:
        """Fit heads and gate, and compare every fusion that the streams have the data for."""
        fits = Fits(
            self.parts,
            FitChoices(seed=self.config.seed, gate=self._gate_net(), schedule=self.config.gate),
            device=self.device,
            on_head=self._log_head,
            on_gate=self._log_gate,
        )
        test, held_out = fits.scores(self._clips())
        for part, scores in (("test", test), ("validation", held_out), ("fit", held_out)):
            scores.save(scores_path(self.folder, part))
        comparison = self._compared(test, held_out)
        write_comparison(self.folder, comparison)
        return comparison

    def _compared(self, test: ClipScores, held_out: ClipScores) -> TrialComparison:
        offered = test.fusion_data()
        return compare_fusions(
            test,
            fit_on=held_out,
            validation=held_out,
            split=self.parts.split,
            part=self.parts.part,
            kind=self.kind,
            seed=self.config.seed,
            names=[name for name in FUSIONS if offered.offers(build_fusion(name).needs)],
        )

    def _clips(self) -> TwoStreams:
        """Return both streams; features for the gate are scaled by the clips that it learns from."""
        ids = self.joined.rgb.ids
        row = {video_id: k for k, video_id in enumerate(ids)}
        learned = np.array([row[k] for k in self.parts.train], np.intp)
        maps = None if self.maps is None else self.maps.scaled(learned)
        rgb, flow = (
            StreamClips(features=one.pooled(), scores=one.scores, maps=own)
            for one, own in (
                (self.joined.rgb, None if maps is None else maps.rgb),
                (self.joined.flow, None if maps is None else maps.flow),
            )
        )
        return TwoStreams(ids=ids, flow=flow, rgb=rgb)

    def _gate_net(self) -> GateConfig | None:
        if self.maps is None:
            return None
        return dataclasses.replace(
            self.config.net, num_classes=len(self.joined.classes), tap_channels=self.maps.channels
        )

    def _log_head(self, head: Head, modality: Modality, without: int | None) -> None:
        stage = modality if without is None else out_of_fold_stage(without, modality)
        self.on_event({"event": "fitted", "stage": stage, "penalty": head.penalty})

    def _log_gate(self, _: GatingConvNet, share: float) -> None:
        self.on_event({"event": "fitted", "stage": "gate", "share": share})
