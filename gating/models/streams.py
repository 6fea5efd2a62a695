"""A stream: backbone, dropout and classifier on K segments; frozen as the gate needs it.

Source: TSN, arXiv 1608.00859: scores before softmax, their mean over the segments is the
consensus, all batch norms but the first keep their statistics ("partial BN").
"""

from __future__ import annotations

import dataclasses
from typing import Self

import torch
from torch import Tensor, nn

from flowkit.validate import check_choice
from gating.config import StreamConfig
from gating.errors import WeightsError
from gating.models import weights
from gating.models.backbones import build_backbone

# TSN's and tsn-pytorch's start of the classifier.
CLASSIFIER_STD = 0.001
# Of a frozen backbone on a CPU.
IMAGES_AT_ONCE = 4


@dataclasses.dataclass(frozen=True, slots=True)
class StreamOutput:
    """A stream's scores, pooled features and feature maps of B clips of K segments.

    Attributes
    ----------
    scores : Tensor
        float (B, K, num_classes), before softmax.
    features : Tensor
        float (B, K, features), pooled, before dropout.
    feature_map : Tensor
        float (B, K, C, h, w), the output of the layer `Stream.tap`, which the gate reads; with head
        "clip" (B, 1, C, h, w), its mean over the segments.
    """

    scores: Tensor
    features: Tensor
    feature_map: Tensor

    @property
    def consensus(self) -> Tensor:
        """Mean of the scores over the segments, (B, num_classes)."""
        return self.scores.mean(dim=1)


@dataclasses.dataclass(frozen=True, slots=True)
class BackboneOutput:
    """The input of a head and of the gate for B clips: features (B, K, D), and maps (B, K or 1, C, h, w)."""

    features: Tensor
    feature_map: Tensor


class Stream(nn.Module):
    """One stream: a backbone, dropout and a linear classifier, on normalised segments.

    Parameters
    ----------
    config : StreamConfig
        Its `weights` are not loaded here: `gating.models.streams.build_stream` does.

    Raises
    ------
    InvalidParameterError
        `config.tap` is no layer of the backbone.
    """

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.in_channels)
        self.tap = config.tap or self.backbone.default_tap
        check_choice("tap", self.tap, self.backbone.taps)
        self.dropout = nn.Dropout(config.dropout_rate)
        pooled = 2 * self.backbone.features if config.head == "clip" else self.backbone.features
        self.classifier = nn.Linear(pooled, config.num_classes)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.classifier.bias)
        self.frozen = False
        if config.partial_bn:
            for norm in self._later_norms():
                norm.requires_grad_(False)

    @property
    def tap_channels(self) -> int:
        """Channels of the feature map: `GateConfig.tap_channels`."""
        return self.backbone.taps[self.tap]

    @property
    def learner(self) -> nn.Module:
        """The part that learns and that a checkpoint keeps: all, or with head "clip" the classifier alone."""
        return self.classifier if self.config.head == "clip" else self

    def forward(self, segments: Tensor) -> StreamOutput:
        """Run the stream.

        Parameters
        ----------
        segments
            float (B, K, C, H, W), normalised by `backbone.inputs` (`gating.data.augment`).
        """
        return self.scored(self.below_head(segments))

    def below_head(self, segments: Tensor) -> BackboneOutput:
        """Run the backbone on the segments that `forward` takes."""
        clips, count = segments.shape[:2]
        images = segments.flatten(0, 1)
        # Of a frozen backbone few at once: their maps stay in a processor's caches.
        few = self.config.head == "clip" and not images.is_cuda and not torch.compiler.is_exporting()
        split = torch.split(images, IMAGES_AT_ONCE) if few else (images,)
        parts = [self.backbone(some, self.tap) for some in split]
        features = torch.cat([one for one, _ in parts]).view(clips, count, -1)
        maps = torch.cat([one for _, one in parts])
        maps = maps.reshape(clips, count, *maps.shape[1:])
        if self.config.head == "clip":
            maps = maps.mean(dim=1, keepdim=True)
        return BackboneOutput(features, maps)

    def scored(self, below: BackboneOutput) -> StreamOutput:
        """Return the scores of what `below_head` gave; a clip's head gives all its segments one score."""
        features = below.features
        if self.config.head == "clip":
            scores = self.classifier(self.dropout(clip_features(features)))
            scores = scores[:, None].expand(-1, features.shape[1], -1)
        else:
            scores = self.classifier(self.dropout(features))
        return StreamOutput(scores, features, below.feature_map)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, in which the batch norms that are to stay fixed stay fixed.

        A frozen stream in training mode drops out, and nothing else of it changes: the gate is
        trained on the scores of streams whose dropout is on.
        """
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        elif mode and self.config.partial_bn:
            for norm in self._later_norms():
                norm.eval()
        return self

    def freeze(self) -> Self:
        """Stop all learning for good: no gradient, batch statistics fixed; dropout obeys `train`."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(self.training)

    def _later_norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)][1:]


def clip_features(features: Tensor) -> Tensor:
    """Return the mean and the standard deviation over K segments, (B, 2 D), of features (B, K, D)."""
    return torch.cat([features.mean(dim=1), features.std(dim=1, correction=0)], dim=1)


def build_stream(config: StreamConfig) -> Stream:
    """Return a stream with the weights that its configuration names.

    Raises
    ------
    WeightsError, WeightsUnavailableError
        The file does not fit, or no installed package gives the weights.
    """
    stream = Stream(config)
    if config.weights == "imagenet":
        tensors = weights.imagenet_file(config.backbone)
        weights.load_backbone(stream.backbone, tensors, source=f"ImageNet's {config.backbone}")
    elif config.weights is not None:
        load_stream(stream, weights.read_tensors(config.weights), source=config.weights)
    return stream


def load_stream(stream: Stream, tensors: dict[str, Tensor], *, source: str) -> weights.LoadReport:
    """Load a trunk, and the file's classifier where it has this stream's number of classes.

    A classifier of another number of classes, as ImageNet's, is left aside.

    Raises
    ------
    WeightsError
        The trunk does not fit, or the classifier has as many classes on other features.
    """
    _, head = weights.trunk_tensors(tensors)
    report = weights.load_backbone(stream.backbone, tensors, source=source)
    if "weight" not in head or head["weight"].shape[0] != stream.config.num_classes:
        return report
    weights.load_exactly(stream.classifier, head, source=f"the classifier of {source}")
    return dataclasses.replace(report, loaded=report.loaded + len(head), classifier=True)


def check_same_features(one: Stream, other: Stream | None = None) -> None:
    """Raise WeightsError unless the maps of two streams can feed one gate; one alone feeds none."""
    if other is None:
        return
    if one.tap_channels != other.tap_channels:
        raise WeightsError(
            f"the gate reads maps of equal channels, got {one.tap_channels} of {one.config.modality}'s "
            f"{one.tap} and {other.tap_channels} of {other.config.modality}'s {other.tap}; choose equal taps"
        )
