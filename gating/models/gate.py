"""The gating ConvNet: from both streams' maps to a weight for each stream, a clip at a time.

Source: Zhu et al., "Two-Stream Gated Fusion ConvNets", arXiv 1709.03655, and its authors'
released networks (zhujiagang/gating-ConvNet-code); docs/gating.md has the table of shapes and
the deviations from it. Index 0 is flow and 1 is rgb throughout.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gating.config import Activation, GateConfig, Variant, released_gate
from gating.models.backbones.inception import INCEPTION_5A, INCEPTION_5B, add_block, run_block
from gating.models.loss import cross_entropy

FLOW, RGB = 0, 1
# Caffe's fillers in the release.
CONV_BIAS = 0.2
LINEAR_STD = 0.001


@dataclasses.dataclass(frozen=True, slots=True)
class GateOutput:
    """The gate's weights of B clips of K segments, and their auxiliary scores.

    Attributes
    ----------
    raw : Tensor
        Pre-activation, float (B, 2), or (B, K, 2) with placement "snippet".
    gates : Tensor
        Weights of flow and rgb, float, of the shape of `raw`, >= 0, not normalised.
    auxiliary : Tensor
        float (B, num_classes), scores of the auxiliary task before softmax.
    """

    raw: Tensor
    gates: Tensor
    auxiliary: Tensor


class GatingConvNet(nn.Module):
    """The gate: join the maps, a 1x1 convolution, inception 5a and 5b, pool, two linear layers.

    Parameters
    ----------
    num_classes : int
        Classes of the auxiliary task, >= 2.
    variant : {"A", "B"}
        The released one: 6,828,647 and 5,818,983 parameters with 101 classes.
    config : GateConfig or None
        Any other gate, instead of both.

    Raises
    ------
    InvalidParameterError
        `variant` or `num_classes` is outside its range.
    """

    def __init__(
        self, num_classes: int = 101, variant: Variant = "A", *, config: GateConfig | None = None
    ) -> None:
        super().__init__()
        self.config = config or released_gate(num_classes, variant)
        channels = self.config.tap_channels
        joined = 2 * channels if self.config.combine == "concat" else channels
        self.combine = nn.Conv2d(joined, channels, 1)
        self.blocks = [block.scaled(self.config.width) for block in (INCEPTION_5A, INCEPTION_5B)]
        for block in self.blocks:
            channels = add_block(self, block, channels)
        # Joined along the height, each stream keeps its own half of the pooled feature.
        self.pooled_rows = 2 if self.config.combine == "height" else 1
        features = channels * self.pooled_rows
        self.dropout = nn.Dropout(self.config.dropout)
        self.fc_gate = nn.Linear(features, 2)
        self.fc_auxiliary = nn.Linear(features, self.config.num_classes)
        self._initialise()

    def forward(self, flow_maps: Tensor, rgb_maps: Tensor) -> GateOutput:
        """Return each clip's weights.

        Parameters
        ----------
        flow_maps, rgb_maps
            float (B, K, C, h, w), both streams' feature maps; C is `GateConfig.tap_channels`.
        """
        clips, segments = flow_maps.shape[:2]
        feature = self.dropout(self.pooled(flow_maps.flatten(0, 1), rgb_maps.flatten(0, 1)))
        raw = self.fc_gate(feature).unflatten(0, (clips, segments))
        auxiliary = self.fc_auxiliary(feature).unflatten(0, (clips, segments)).mean(dim=1)
        if self.config.placement == "consensus":
            raw = raw.mean(dim=1)
        return GateOutput(raw, activate(raw, self.config), auxiliary)

    def pooled(self, flow_maps: Tensor, rgb_maps: Tensor) -> Tensor:
        """Return the pooled feature (n, features) of maps (n, C, h, w)."""
        maps = self.combine(join(flow_maps, rgb_maps, self.config))
        for block in self.blocks:
            maps = run_block(self, block, maps)
        return F.adaptive_avg_pool2d(maps, (self.pooled_rows, 1)).flatten(1)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen batch norms stay as they were initialised."""
        super().train(mode)
        if self.config.normalization == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                # Caffe's xavier: uniform, by the fan in alone.
                limit = math.sqrt(3 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -limit, limit)
                nn.init.constant_(module.bias, CONV_BIAS)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=LINEAR_STD)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d) and self.config.normalization == "frozen":
                module.requires_grad_(False)
        with torch.no_grad():
            self.fc_gate.bias.copy_(start_of(self.config))


def join(flow_maps: Tensor, rgb_maps: Tensor, config: GateConfig) -> Tensor:
    """Join two maps (n, C, h, w): to (n, 2C, h, w), (n, C, 2h, w) or (n, C, h, w); flow first."""
    if config.combine == "sum":
        return flow_maps + rgb_maps
    return torch.cat([flow_maps, rgb_maps], dim=1 if config.combine == "concat" else 2)


def activate(raw: Tensor, config: GateConfig) -> Tensor:
    """Return the gates (..., 2) of pre-activations (..., 2).

    ReLU is the paper's. A gate that starts from the fixed fusion scales softmax to sum to the
    fixed weights' sum, and sigmoid to reach twice the larger one, so that they can start there;
    one that starts from zero takes both as they are.
    """
    if config.activation == "relu":
        return F.relu(raw)
    scale = _scale(config.activation, config)
    return scale * (torch.softmax(raw, dim=-1) if config.activation == "softmax" else torch.sigmoid(raw))


def _scale(activation: Activation, config: GateConfig) -> float:
    if config.start == "zero":
        return 1.0
    return sum(config.fixed) if activation == "softmax" else 2 * max(config.fixed)


def start_of(config: GateConfig) -> Tensor:
    """Return the pre-activation (2,) that gates start from: of the fixed fusion, or zeros."""
    if config.start == "zero":
        return torch.zeros(2)
    fixed = torch.tensor(config.fixed)
    if config.activation == "relu":
        return fixed
    fraction = fixed / _scale(config.activation, config)
    return fraction.log() if config.activation == "softmax" else fraction.logit()


def fuse(gates: Tensor, flow_scores: Tensor, rgb_scores: Tensor) -> Tensor:
    """Return fused scores (B, num_classes): the sum of both streams' scores by their gates.

    Parameters
    ----------
    gates
        (B, 2), applied to the segments' mean, or (B, K, 2), each to its segment before the mean.
    flow_scores, rgb_scores
        (B, K, num_classes), before softmax.
    """
    if gates.ndim == 2:
        return gates[:, FLOW, None] * flow_scores.mean(1) + gates[:, RGB, None] * rgb_scores.mean(1)
    weighed = gates[..., FLOW, None] * flow_scores + gates[..., RGB, None] * rgb_scores
    return weighed.mean(dim=1)


@dataclasses.dataclass(frozen=True, slots=True)
class GateLoss:
    """The loss and its parts, scalars: `total` = `fused` + lambda * `auxiliary` + w * `prior`."""

    total: Tensor
    fused: Tensor
    auxiliary: Tensor
    prior: Tensor


def gate_loss(
    output: GateOutput,
    fused: Tensor,
    labels: Tensor,
    *,
    config: GateConfig,
    class_weights: Tensor | None = None,
) -> GateLoss:
    """Return CE of the fused scores, plus the auxiliary CE and the prior by their weights.

    Parameters
    ----------
    output
        The gate's.
    fused
        (B, num_classes), of `fuse`, before softmax.
    labels
        int64 (B,).
    config
        Gives `auxiliary_weight`, `prior` and the start that the prior draws to.
    class_weights
        (C,), of both cross-entropies; None is 1 for each class.
    """
    fused_loss = cross_entropy(fused, labels, class_weights)
    auxiliary = cross_entropy(output.auxiliary, labels, class_weights)
    start = start_of(config).to(output.raw, non_blocking=True)
    prior = (output.raw - start).square().sum(dim=-1).mean()
    total = fused_loss + config.auxiliary_weight * auxiliary + config.prior * prior
    return GateLoss(total, fused_loss, auxiliary, prior)


def with_fallback(gates: Tensor, fixed: tuple[float, float]) -> Tensor:
    """Return the gates, with the fixed weights where both are zero.

    A clip without any gate would score zero for every class.
    """
    dead = (gates <= 0).all(dim=-1)
    return torch.where(dead[..., None], torch.tensor(fixed).to(gates), gates)
