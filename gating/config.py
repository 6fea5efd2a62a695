"""Configurations of streams, gate, augmentation and schedule: frozen choices, without torch.

`STREAM_PRESETS`, `AUGMENT_PRESETS` and `gate_preset` hold the presets' parts; docs/gating.md has the
source of each and its deviations from the release.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from flowkit.validate import check_at_least, check_choice, check_positive, check_range, check_that

Modality = Literal["rgb", "flow"]
MODALITIES: tuple[Modality, Modality] = ("rgb", "flow")
Combine = Literal["concat", "height", "sum"]
Activation = Literal["relu", "softmax", "sigmoid"]
Placement = Literal["consensus", "snippet"]
Start = Literal["fixed", "zero"]
Normalization = Literal["batch", "frozen"]
Variant = Literal["A", "B"]
Optimizer = Literal["sgd", "adamw"]
Decay = Literal["constant", "steps", "cosine"]
Preset = Literal["frozen", "tiny", "tsn", "zhu2018"]
Head = Literal["segment", "clip"]
FlowInput = Literal["stack", "image"]
ClassWeights = Literal["none", "balanced"]
ClipSampling = Literal["random", "balanced"]
StageKind = Literal["rgb", "flow", "gate"]
STAGES: tuple[StageKind, ...] = ("rgb", "flow", "gate")
# Above what anybody trains, below what exhausts memory: a run, and its configuration, may be from elsewhere.
MAX_CLASSES = 100_000
MAX_SEGMENTS = 1000
MAX_STACK = 256
MAX_FOLDS = 1000
MAX_EPOCHS = 1_000_000
MAX_BATCH = 1_000_000
MAX_SIDE_PX = 4096
MAX_CHANNELS = 65_536

CropCount = Literal[1, 5, 10]
"""Crops of a clip in testing: the centre, corners and centre, or these and their mirror images."""

BACKBONES: dict[str, str] = {
    "bn_inception": "gating.models.backbones.inception:BNInception",
    "resnet18": "gating.models.backbones.resnet:ResNet18",
    "resnet50": "gating.models.backbones.resnet:ResNet50",
    "efficientnet_lite0": "gating.models.backbones.efficientnet_lite:EfficientNetLite0",
    "small": "gating.models.backbones.small:SmallNet",
}
"""`module:class` of each backbone, loaded when one is built."""

# TSN's own: the spatial stream overfits more than the temporal one.
TSN_DROPOUT: dict[Modality, float] = {"rgb": 0.8, "flow": 0.7}
# TSN's 1.5 : 1 for flow : rgb. Everywhere in the gate index 0 is flow and 1 is rgb.
FIXED_WEIGHTS = (1.5, 1.0)
# Fusions that other modules name: the gate, the best fixed weights that it has to beat, and the bound.
GATING, BASELINE, ORACLE = "gating", "search", "oracle"
# Not one fusion: the row of the table in which each trial has the fusion that it chose.
CHOSEN = "chosen"
# Split and tested part of a run whose every clip trains: its table is of out-of-fold scores.
ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """One stream: a backbone, dropout and a linear classifier.

    Parameters
    ----------
    modality : {"rgb", "flow"}
        Input of a segment: one frame, or `stack` consecutive flow fields.
    num_classes : int
        Classes, >= 2.
    backbone : str
        One of `BACKBONES`.
    stack : int
        Flow fields a segment, >= 1; TSN's 5 give 10 input channels. Without effect on rgb.
    dropout : float or None
        Fraction of pooled features dropped in training, [0, 1); None is TSN's .8 (rgb) or .7 (flow).
    partial_bn : bool
        Keep the statistics and the affine part of every batch norm but the first.
    tap : str or None
        Layer whose feature map the gate reads; None is the backbone's own default.
    weights : str or None
        "imagenet" (from an installed package), a file's path, or None for a random start.
    head : {"segment", "clip"}
        The classifier: on each segment's features, or on their mean and standard deviation over the
        clip; the backbone below it stays as its weights are, and the gate reads the clip's mean map.
    flow_input : {"stack", "image"}
        Channels of a flow segment: x and y of each field; or of one field x, y and its length, as an
        image's red, green and blue.
    """

    modality: Modality
    num_classes: int
    backbone: str = "bn_inception"
    stack: int = 5
    dropout: float | None = None
    partial_bn: bool = True
    tap: str | None = None
    weights: str | None = None
    head: Head = "segment"
    flow_input: FlowInput = "stack"

    def __post_init__(self) -> None:
        """Check each choice; `Stream` checks that its backbone has the layer `tap`."""
        check_choice("modality", self.modality, TSN_DROPOUT)
        check_choice("backbone", self.backbone, BACKBONES)
        check_range("num_classes", self.num_classes, 2, MAX_CLASSES)
        check_range("stack", self.stack, 1, MAX_STACK, unit="flow fields")
        check_choice("head", self.head, get_args(Head))
        check_choice("flow_input", self.flow_input, get_args(FlowInput))
        single = self.flow_input == "stack" or self.stack == 1
        check_that("stack", self.stack, single, "1 with flow_input='image'")
        check_range("dropout", self.dropout_rate, 0, 1, bounds="[)")

    @property
    def dropout_rate(self) -> float:
        """The dropout that applies, [0, 1)."""
        return TSN_DROPOUT[self.modality] if self.dropout is None else self.dropout

    @property
    def in_channels(self) -> int:
        """Channels of one segment: 3 of an image, or x and y of each flow field."""
        return 3 if self.modality == "rgb" or self.flow_input == "image" else 2 * self.stack


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """The gating ConvNet and its loss.

    Parameters
    ----------
    num_classes : int
        Classes of the auxiliary task, >= 2.
    tap_channels : int
        Channels of each stream's feature map; 1056 for BN-Inception's `inception_4e`.
    combine : {"concat", "height", "sum"}
        Join of the two maps: on channels, along the height, or by addition.
    activation : {"relu", "softmax", "sigmoid"}
        From pre-activation to gate.
    placement : {"consensus", "snippet"}
        Activate the mean over the K segments, or each segment (then scores are weighed before
        their mean).
    dropout : float
        On the gate's pooled feature, [0, 1).
    auxiliary_weight : float
        lambda of the auxiliary classification, >= 0.
    start : {"fixed", "zero"}
        Bias such that the first gate is `fixed`, or zero as released.
    fixed : (float, float)
        Fixed fusion weights (flow, rgb), > 0: start, centre of the prior, and fallback.
    prior : float
        Weight of the squared distance of the pre-activation from its start, >= 0.
    width : float
        Multiplies the widths of the two inception blocks, > 0; below 1 for small nets.
    normalization : {"batch", "frozen"}
        Batch norms that learn, or that stay as initialised: the release froze them.
    """

    num_classes: int
    tap_channels: int = 1056
    combine: Combine = "concat"
    activation: Activation = "relu"
    placement: Placement = "consensus"
    dropout: float = 0.9
    auxiliary_weight: float = 0.1
    start: Start = "fixed"
    fixed: tuple[float, float] = FIXED_WEIGHTS
    prior: float = 0.1
    width: float = 1.0
    normalization: Normalization = "batch"

    def __post_init__(self) -> None:
        """Check each choice."""
        check_choice("combine", self.combine, ("concat", "height", "sum"))
        check_choice("activation", self.activation, ("relu", "softmax", "sigmoid"))
        check_choice("placement", self.placement, ("consensus", "snippet"))
        check_choice("start", self.start, ("fixed", "zero"))
        check_choice("normalization", self.normalization, ("batch", "frozen"))
        check_range("num_classes", self.num_classes, 2, MAX_CLASSES)
        check_range("tap_channels", self.tap_channels, 1, MAX_CHANNELS)
        check_range("dropout", self.dropout, 0, 1, bounds="[)")
        for name in ("auxiliary_weight", "prior"):
            value = getattr(self, name)
            check_that(name, value, 0 <= value < math.inf, "finite and >= 0")
        check_range("width", self.width, 0, 4, bounds="(]")
        positive = len(self.fixed) == 2 and all(0 < weight < math.inf for weight in self.fixed)
        check_that("fixed", self.fixed, positive, "two finite weights > 0, flow then rgb")


def released_gate(num_classes: int = 101, variant: Variant = "A") -> GateConfig:
    """Return the gate as its authors released it (preset `zhu2018`).

    Source: GitHub zhujiagang/gating-ConvNet-code, `gating_three_2*_train_val.prototxt`: A joins
    the maps on channels, B along the height. Biases of the last layers are zero, there is no
    prior, and every batch norm of the gate is `frozen: true`: initial statistics, no learning.
    """
    check_choice("variant", variant, ("A", "B"))
    common = GateConfig(num_classes=num_classes, start="zero", prior=0.0, normalization="frozen")
    if variant == "A":
        return common
    return dataclasses.replace(common, combine="height", dropout=0.8, auxiliary_weight=1.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Crops, flips and the scaling of flow, the same for both modalities of a clip.

    Parameters
    ----------
    size : int
        Side of the network's square input, px.
    scales : tuple of float
        Sides of the random crops as fractions of the shorter side, in (0, 1].
    max_distort : int
        Most steps of `scales` between width and height, >= 0.
    flip : bool
        Mirror half of the training clips; off where left and right make classes.
    bound_px : float
        Flow beyond +-bound is clipped, px, > 0; TSN's 20.
    whole_frame : bool
        Test on the whole frame, resized to the square, instead of its centre.
    """

    size: int = 224
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: int = 1
    flip: bool = True
    bound_px: float = 20.0
    whole_frame: bool = False

    def __post_init__(self) -> None:
        """Check each choice."""
        check_range("size", self.size, 8, MAX_SIDE_PX, unit="px")
        in_range = bool(self.scales) and all(0 < scale <= 1 for scale in self.scales)
        check_that("scales", self.scales, in_range, "one or more fractions in (0, 1]")
        check_at_least("max_distort", self.max_distort, 0)
        check_positive("bound_px", self.bound_px, unit="px")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The optimiser of one stage and its learning rate over the epochs (`gating.training.optimizer`).

    Parameters
    ----------
    epochs : int
        Passes over the training clips, >= 1.
    lr : float
        Learning rate at the start, > 0.
    optimizer : {"sgd", "adamw"}
        SGD with momentum, as TSN and the release, or AdamW.
    decay : {"constant", "steps", "cosine"}
        Of `lr`: none, a tenth after each milestone, or half a cosine to zero.
    milestones : tuple of float
        Epochs after which it falls to a tenth, ascending; for "steps" alone.
    warmup_epochs : float
        Epochs over which it rises linearly from zero, >= 0.
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
        Largest L2 norm of the gradient, > 0; longer ones are scaled to it. TSN's 40 for rgb and 20 for flow.
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
        check_range("epochs", self.epochs, 1, MAX_EPOCHS)
        check_that("lr", self.lr, 0 < self.lr < math.inf, "finite and > 0")
        if self.segments is not None:
            check_range("segments", self.segments, 1, MAX_SEGMENTS)
        check_range("batch", self.batch, 1, MAX_BATCH, unit="clips")
        check_that("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        check_that("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and >= 0")
        check_that("clip_norm", self.clip_norm, self.clip_norm is None or self.clip_norm > 0, "> 0 or None")
        warm = 0 <= self.warmup_epochs < self.epochs
        check_that("warmup_epochs", self.warmup_epochs, warm, "in [0, epochs)")
        ascending = list(self.milestones) == sorted(self.milestones)
        fits = ascending and (not self.milestones or self.decay == "steps")
        check_that("milestones", self.milestones, fits, "ascending, and given with decay 'steps' alone")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """The run whose weights a run starts from.

    Parameters
    ----------
    run : str
        Its folder.
    kept : tuple of {"rgb", "flow", "gate"}
        Stages that keep its weights; the others train on from there.
    """

    run: str
    kept: tuple[StageKind, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Options for reading batches; they do not change the batches' contents.

    Parameters
    ----------
    workers : int
        Processes that read ahead, >= 0; with 0 this process reads.
    micro_batch : int
        Most clips at once in a process, >= 1; a step's clips come in several.
    """

    workers: int = 0
    micro_batch: int = 32

    def __post_init__(self) -> None:
        """Check both numbers."""
        check_at_least("workers", self.workers, 0)
        check_at_least("micro_batch", self.micro_batch, 1, unit="clips")


# For each preset: backbone, augmentation and gate, as functions of the number of classes.
STREAM_PRESETS: dict[Preset, str] = {
    "frozen": "efficientnet_lite0",
    "tiny": "small",
    "tsn": "bn_inception",
    "zhu2018": "bn_inception",
}

AUGMENT_PRESETS: dict[Preset, AugmentConfig] = {
    # Features are made once, of what testing sees.
    "frozen": AugmentConfig(flip=False, bound_px=8.0, whole_frame=True),
    # Flow of 64-px clips is slow: a narrow range keeps its small motions apart.
    "tiny": AugmentConfig(size=56, scales=(1.0, 0.875), bound_px=4.0),
    "tsn": AugmentConfig(),
    "zhu2018": AugmentConfig(),
}


def gate_preset(name: Preset, num_classes: int) -> GateConfig:
    """Return the gate of a preset; `zhu2018`'s is the released variant A."""
    check_choice("preset", name, STREAM_PRESETS)
    if name == "frozen":
        # EfficientNet-Lite0's block14. Few clips: a small gate, near the best fixed weights.
        return GateConfig(num_classes=num_classes, tap_channels=192, width=0.125, dropout=0.5, prior=0.1)
    if name == "zhu2018":
        return released_gate(num_classes)
    if name == "tsn":
        return GateConfig(num_classes=num_classes)
    # A stronger prior held the gates near the fixed weights on clips whose streams contradict each other.
    return GateConfig(num_classes=num_classes, tap_channels=64, width=0.125, dropout=0.5, prior=0.01)
