"""The configuration of a training run, one record, and the presets `frozen`, `tiny`, `tsn` and `zhu2018`.

Sources of `tsn` and `zhu2018`: TSN's repository and tsn-pytorch, and the released gating networks;
docs/gating.md and docs/train.md have the source of each value.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from flowkit.datasets.sampling import Short
from flowkit.errors import InputError, InvalidParameterError
from flowkit.untrusted_json import typed
from flowkit.validate import check_at_least, check_choice, check_range, check_that
from gating.config import (
    AUGMENT_PRESETS,
    BACKBONES,
    MAX_FOLDS,
    MAX_SEGMENTS,
    MAX_STACK,
    MODALITIES,
    STREAM_PRESETS,
    AugmentConfig,
    ClassWeights,
    ClipSampling,
    CropCount,
    Extension,
    FlowInput,
    GateConfig,
    Head,
    Modality,
    Preset,
    Schedule,
    StageKind,
    StreamConfig,
    gate_preset,
)

GateData = Literal["out-of-fold", "holdout", "same"]
GATE_DATA: tuple[GateData, ...] = ("out-of-fold", "holdout", "same")
PRESETS: tuple[Preset, ...] = tuple(STREAM_PRESETS)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All choices that decide the result of training; runs of equal configuration and data are equal.

    Parameters
    ----------
    preset : {"frozen", "tiny", "tsn", "zhu2018"}
        Origin of the values below; a name, without effect.
    backbone : str
        Of both streams, one of `gating.config.BACKBONES`.
    rgb_weights, flow_weights : str or None
        "imagenet", a file's path, or None for a random start.
    rgb_dropout, flow_dropout : float or None
        [0, 1); None is TSN's .8 and .7.
    partial_bn : bool
        All batch norms but the first are fixed; wrong for a random start.
    tap : str or None
        Layer that the gate reads; None is the backbone's own default.
    segments, stack : int
        K segments of a clip, each one frame and L flow fields.
    short : {"clamp", "wrap"}
        Fields of a segment beyond a short clip's end: the last one, or the clip from its start.
    augment : AugmentConfig
        Crops, flips and the bound of flow.
    flow_scales : tuple of float or None
        Instead of `augment.scales` while the flow stream learns; TSN leaves out .66.
    rgb, flow, gate : Schedule
        Of the three stages.
    net : GateConfig
        The gate; its `num_classes` and `tap_channels` follow the data and the streams.
    gate_data : {"out-of-fold", "holdout", "same"}
        Training data of the gate: scores of out-of-fold streams, clips that the streams never see, or
        the streams' own training clips (as released).
    stream_folds : int
        Pairs of out-of-fold streams for "out-of-fold", >= 2.
    holdout_share, validation_share : float
        Fractions of the training list, (0, .5], groups whole: the gate's clips for "holdout", and the
        clips that pick the best epoch, which nothing learns from.
    test_segments : int
        Segments of a clip in scoring, >= 1; TSN's are 25.
    test_crops : {1, 5, 10}
        Crops of a segment in scoring; TSN's are 10.
    fusion : str
        "gating", or a fusion of `gating.fusions.FUSIONS`: then no gate is trained.
    field : str
        Flow field of the store.
    amp : bool
        Mixed precision: bfloat16, or float16 on GPUs without it.
    seed : int
        Of everything random, >= 0.
    head : {"segment", "clip"}
        What the streams learn: all of them, or a linear head on the features of frozen backbones
        (`StreamConfig`). With "clip" all clips' features are computed once and kept, the heads'
        strength is chosen by cross-validation, and `rgb`, `flow`, partial_bn and dropout have no effect.
    flow_input : {"stack", "image"}
        Channels of a flow segment (`StreamConfig`).
    all_clips : bool
        Every clip of the split trains and none is tested. There is no validation part: the last epoch of
        each stage is taken, and the fusions are compared on out-of-fold scores.
    class_weights : {"none", "balanced"}
        Of a clip in the losses of heads, networks and gate: 1, or by its class, inversely proportional to
        the class's clips (`gating.data.balance.class_weights`).
    sampling : {"random", "balanced"}
        An epoch of a network: each clip once, or as many of each class (`gating.data.balance.balanced_keys`).
        Without effect on heads, which take all clips at once.
    patience : int or None
        Epochs without a better validation value, >= 1, after which a stage of a network ends; None is never.
        The value is top-1, and between equals the lower loss.
    extends : Extension or None
        Run whose trials the stages of these start from, with new optimisers; each of the same split, part
        and seed. None starts from the weights of `rgb_weights` and `flow_weights`.
    modalities : tuple of {"rgb", "flow"}
        The streams: ("rgb", "flow"), or one of them, which then is the `fusion`: no gate is trained and
        nothing is fused.
    """

    preset: Preset = "tsn"
    backbone: str = "bn_inception"
    rgb_weights: str | None = "imagenet"
    flow_weights: str | None = "imagenet"
    rgb_dropout: float | None = None
    flow_dropout: float | None = None
    partial_bn: bool = True
    tap: str | None = None
    segments: int = 3
    stack: int = 5
    short: Short = "clamp"
    augment: AugmentConfig
    flow_scales: tuple[float, ...] | None = None
    rgb: Schedule
    flow: Schedule
    gate: Schedule
    net: GateConfig
    gate_data: GateData = "out-of-fold"
    stream_folds: int = 3
    holdout_share: float = 0.25
    validation_share: float = 0.1
    test_segments: int = 25
    test_crops: CropCount = 1
    fusion: str = "gating"
    field: str = "flow"
    amp: bool = False
    seed: int = 0
    head: Head = "segment"
    flow_input: FlowInput = "stack"
    all_clips: bool = False
    class_weights: ClassWeights = "none"
    sampling: ClipSampling = "random"
    patience: int | None = None
    extends: Extension | None = None
    modalities: tuple[Modality, ...] = MODALITIES

    def __post_init__(self) -> None:
        """Check the choices that are not of a part."""
        check_choice("preset", self.preset, PRESETS)
        check_choice("backbone", self.backbone, BACKBONES)
        check_choice("gate_data", self.gate_data, GATE_DATA)
        check_choice("class_weights", self.class_weights, get_args(ClassWeights))
        check_choice("sampling", self.sampling, get_args(ClipSampling))
        for name in ("segments", "test_segments"):
            check_range(name, getattr(self, name), 1, MAX_SEGMENTS)
        check_range("stack", self.stack, 1, MAX_STACK, unit="flow fields")
        check_that("test_crops", self.test_crops, self.test_crops in (1, 5, 10), "1, 5 or 10")
        check_range("stream_folds", self.stream_folds, 2, MAX_FOLDS)
        for name in ("holdout_share", "validation_share"):
            check_that(name, getattr(self, name), 0 < getattr(self, name) <= 0.5, "in (0, .5]")
        check_that("seed", self.seed, self.seed >= 0, ">= 0")
        if self.head == "clip":
            check_that("test_crops", self.test_crops, self.test_crops == 1, "1 with head='clip'")
            kept = self.gate_data == "out-of-fold"
            check_that("gate_data", self.gate_data, kept, "'out-of-fold' with head='clip'")
            once = "'random' with head='clip': heads take all clips at once, and class_weights weigh them"
            check_that("sampling", self.sampling, self.sampling == "random", once)
            anew = "None with head='clip': heads are fitted anew"
            check_that("extends", self.extends, self.extends is None, anew)
        if self.patience is not None:
            check_at_least("patience", self.patience, 1, unit="epochs")
            validated = self.head == "segment" and not self.all_clips
            expected = (
                "None where no validation clips pick an epoch: with head='clip', and where every clip trains"
            )
            check_that("patience", self.patience, validated, expected)
        choices = (MODALITIES, *((one,) for one in MODALITIES))
        check_that("modalities", self.modalities, self.modalities in choices, "rgb and flow, or one of them")
        if self.lone_stream is not None:
            alone = self.fusion == self.lone_stream
            check_that("fusion", self.fusion, alone, f"{self.lone_stream!r}, the only stream")
        if self.all_clips:
            kept = self.gate_data == "out-of-fold"
            check_that("gate_data", self.gate_data, kept, "'out-of-fold' where every clip trains (--all)")

    @property
    def lone_stream(self) -> Modality | None:
        """The stream that is trained alone, None for both."""
        return self.modalities[0] if len(self.modalities) == 1 else None

    def stream(self, modality: Modality, num_classes: int) -> StreamConfig:
        """Return the configuration of one stream."""
        return StreamConfig(
            modality=modality,
            num_classes=num_classes,
            backbone=self.backbone,
            stack=self.stack,
            dropout=self.rgb_dropout if modality == "rgb" else self.flow_dropout,
            partial_bn=self.partial_bn,
            tap=self.tap,
            weights=self.rgb_weights if modality == "rgb" else self.flow_weights,
            head=self.head,
            flow_input=self.flow_input,
        )

    def gate_net(self, num_classes: int, tap_channels: int) -> GateConfig:
        """Return the gate's configuration for these classes and streams with maps of so many channels."""
        return dataclasses.replace(self.net, num_classes=num_classes, tap_channels=tap_channels)

    def stream_augment(self, modality: Modality) -> AugmentConfig:
        """Return the augmentation while one stream learns."""
        if modality == "rgb" or self.flow_scales is None:
            return self.augment
        return dataclasses.replace(self.augment, scales=self.flow_scales)

    def schedule(self, stage: StageKind) -> Schedule:
        """Return the schedule of "rgb", "flow" or "gate"."""
        check_choice("stage", stage, get_args(StageKind))
        schedule: Schedule = getattr(self, stage)
        return schedule

    def to_json(self) -> dict[str, object]:
        """Return all choices as plain values, tuples as lists.

        Those at which earlier versions stood are left out, so that their unfinished runs go on.
        """
        values = {name: _plain(value) for name, value in dataclasses.asdict(self).items()}
        augment = values["augment"]
        assert isinstance(augment, dict)
        for name, value in _EARLIER_AUGMENT.items():
            if augment[name] == value:
                del augment[name]
        return {name: value for name, value in values.items() if _EARLIER.get(name, ...) != value}

    @classmethod
    def from_json(cls, values: object) -> TrainConfig:
        """Return the configuration that `to_json` gave.

        Raises
        ------
        InvalidParameterError
            A name is unknown or missing, or a value is of another type or out of its range.
        """
        try:
            config: TrainConfig = typed("config", values, cls)
        except InputError as error:
            raise InvalidParameterError(str(error)) from error
        return config


_EARLIER = {
    "head": "segment",
    "flow_input": "stack",
    "all_clips": False,
    "class_weights": "none",
    "sampling": "random",
    "patience": None,
    "extends": None,
    "modalities": [*MODALITIES],
}
_EARLIER_AUGMENT = {"whole_frame": False}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


# TSN on UCF101: 9,537 clips are 75 batches of 128, the last one short, so that its 3,500
# iterations are 47 epochs and its 18,000 are 240.
TSN_RGB = Schedule(epochs=47, lr=0.001, decay="steps", milestones=(20, 40), clip_norm=40)
TSN_FLOW = Schedule(epochs=240, lr=0.005, decay="steps", milestones=(133, 213), clip_norm=20)
TSN_FLOW_SCALES = (1.0, 0.875, 0.75)
# The released solver: constant lr, about 47 epochs.
RELEASED_GATE = Schedule(epochs=47, lr=0.001)

# Chosen on a set of 2,000 clips like benchmarks/gate_sets.py's "conflict", of another seed.
_SMALL = Schedule(
    epochs=24,
    lr=0.004,
    optimizer="adamw",
    decay="cosine",
    warmup_epochs=2.4,
    segments=1,
    batch=32,
    weight_decay=0.05,
)
_SMALL_FLOW = dataclasses.replace(_SMALL, epochs=28, warmup_epochs=2.8)
FROZEN_SEGMENTS = 12
_FROZEN_GATE = dataclasses.replace(_SMALL, epochs=6, warmup_epochs=1.0, lr=0.002, segments=None)
_SMALL_GATE = dataclasses.replace(_SMALL, epochs=20, warmup_epochs=2.0, lr=0.002, segments=None)


def train_preset(name: Preset) -> TrainConfig:
    """Return a preset.

    `frozen` (linear heads on ImageNet features, minutes on a CPU), `tiny` (small clips from scratch on a
    CPU, minutes), `tsn` or `zhu2018` (the release).

    Raises
    ------
    InvalidParameterError
        `name` is none of these.
    """
    check_choice("preset", name, PRESETS)
    net = gate_preset(name, 2)
    if name == "frozen":
        return TrainConfig(
            preset="frozen",
            backbone=STREAM_PRESETS["frozen"],
            stack=1,
            augment=AUGMENT_PRESETS["frozen"],
            rgb=TSN_RGB,
            flow=TSN_FLOW,
            gate=_FROZEN_GATE,
            net=net,
            stream_folds=5,
            segments=FROZEN_SEGMENTS,
            test_segments=FROZEN_SEGMENTS,
            head="clip",
            flow_input="image",
        )
    if name == "tiny":
        return TrainConfig(
            preset="tiny",
            backbone=STREAM_PRESETS["tiny"],
            rgb_weights=None,
            flow_weights=None,
            rgb_dropout=0.3,
            flow_dropout=0.3,
            partial_bn=False,
            augment=AUGMENT_PRESETS["tiny"],
            rgb=_SMALL,
            flow=_SMALL_FLOW,
            gate=_SMALL_GATE,
            net=net,
            holdout_share=0.3,
            test_segments=5,
        )
    return TrainConfig(
        preset=name,
        augment=AUGMENT_PRESETS[name],
        flow_scales=TSN_FLOW_SCALES,
        rgb=TSN_RGB,
        flow=TSN_FLOW,
        gate=RELEASED_GATE,
        net=net,
        gate_data="same" if name == "zhu2018" else "out-of-fold",
    )
