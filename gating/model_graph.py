"""A trial's networks and its fusion as one module on plain frames and flow, for `torch.export`.

Nothing in it depends on values: crops, resizing, normalisation and fusion are tensors' operations, so that
batch, height and width stay free.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from flowkit.errors import InvalidParameterError
from gating.config import AugmentConfig, CropCount
from gating.data.augment import (
    FIVE_POSITIONS,
    SNAP_PX,
    TSN_FRACTION,
    Crops,
    flow_codes,
    flow_image_input,
    flow_input,
    rgb_input,
)
from gating.evaluation.scores import Networks, clip_tensors
from gating.fusions import Fusion
from gating.fusions.calibrated import Calibrated
from gating.fusions.fixed import FixedWeights, Search
from gating.fusions.gating import Gating
from gating.fusions.learned import LearnedWeights
from gating.load import ChosenFusion, LoadedTrial
from gating.models.gate import with_fallback

Found = dict[str, Tensor]
Pair = tuple[float, float]


class TwoStreamGraph(nn.Module):
    """Preprocessing, both streams, the gate where there is one, and the fusion.

    Parameters
    ----------
    trial
        In evaluation mode.
    chosen
        Its fusion.
    crops
        Of each segment.

    Raises
    ------
    InvalidParameterError
        The fusion has no form as a graph, or a stream was trained alone.
    """

    def __init__(self, trial: LoadedTrial, chosen: ChosenFusion, *, crops: CropCount) -> None:
        super().__init__()
        networks = trial.networks
        if len(networks.streams) < 2:
            raise InvalidParameterError(
                f"to be exported a run must have both streams, got {next(iter(networks.streams))} alone; "
                "`flowkit predict` computes it"
            )
        self.flow, self.rgb, self.gate = networks.flow, networks.rgb, networks.gate
        self.fusion = fusion_graph(chosen)
        self._config, self._crops = trial.record.config, crops
        self._inputs = networks.inputs

    def forward(self, rgb: Tensor, flow: Tensor) -> Found:
        """Return what the fusion and the streams say of B clips.

        Parameters
        ----------
        rgb
            uint8 (B, K, 3, H, W), red first: a frame of each segment.
        flow
            float32 (B, K, 2 L, H, W), px per frame step: u and v of each of a segment's L fields in turn.

        Returns
        -------
        dict of str to Tensor
            float32: `probabilities`, `scores`, `flow_scores` and `rgb_scores` (B, C), and `weights` (B, 2) of
            flow and rgb where the fusion has such a pair.
        """
        config, inputs = self._config, self._inputs
        augment, size = config.augment, config.augment.size
        codes = flow_codes(flow, flow.new_ones(()), bound_px=augment.bound_px)
        make = flow_image_input if config.flow_input == "image" else flow_input
        cuts = tensor_crops(rgb, augment, self._crops)
        found = clip_tensors(
            Networks(flow=self.flow, rgb=self.rgb, gate=self.gate),
            {
                "flow": [make(codes, cut, inputs, size=size) for cut in cuts],
                "rgb": [rgb_input(rgb, cut, inputs, size=size) for cut in cuts],
            },
        )
        streams = {f"{name}_scores": found[name] for name in ("flow", "rgb")}
        made: Found = self.fusion(found)
        return made | streams


def tensor_crops(frames: Tensor, config: AugmentConfig, count: CropCount) -> list[Crops]:
    """Return `evaluation_crops` of frames (B, ..., H, W), whose sides may be symbols."""
    clips, height, width = frames.shape[0], frames.shape[-2], frames.shape[-1]
    sides = torch.stack([torch.scalar_tensor(side) for side in (height, width)]).to(frames.device)
    if config.whole_frame:
        high = sides
    else:
        side = (sides.min() * TSN_FRACTION).round()
        side = torch.where((side - config.size).abs() < SNAP_PX, float(config.size), side)
        high = torch.minimum(side, sides)
    quarters = ((sides - high) / 4).floor()
    made = []
    for flipped in (False, True)[: 2 if count == 10 else 1]:
        for position in ((2, 2),) if count == 1 else FIVE_POSITIONS:
            box = torch.cat([quarters * torch.tensor(position, device=frames.device), high])
            flips = torch.full((clips,), flipped, device=frames.device)
            made.append(Crops(box.expand(clips, 4), flips))
    return made


class GateGraph(nn.Module):
    """The gate's scores and weights; of a clip whose gates are both zero the fixed ones."""

    def __init__(self, fixed: Pair) -> None:
        super().__init__()
        self._fixed = fixed

    def forward(self, found: Found) -> Found:
        """Return probabilities, scores and weights."""
        scores, weights = found["gated"], with_fallback(found["gates"], self._fixed)
        return {"probabilities": scores.softmax(dim=1), "scores": scores, "weights": weights}


class ConstantGraph(nn.Module):
    """A sum of both streams' scores z, of z / T, or of softmax(z / T), by weights that no clip changes.

    Parameters
    ----------
    weights
        (2,) or (2, C), of flow and rgb; the latter is no pair, and is not returned.
    temperatures
        T of flow and rgb.
    sums
        "scores", which then go through softmax, or "probabilities", which are scaled to sum to 1.
    """

    weights: Tensor

    def __init__(
        self,
        weights: Tensor | Pair,
        *,
        temperatures: Pair = (1.0, 1.0),
        sums: Literal["scores", "probabilities"] = "scores",
    ) -> None:
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self._temperatures, self._sums = temperatures, sums

    def forward(self, found: Found) -> Found:
        """Return probabilities, scores, and weights where they are a pair."""
        names = ("flow", "rgb")
        flow, rgb = (found[name] / T for name, T in zip(names, self._temperatures, strict=True))
        if self._sums == "probabilities":
            flow, rgb = flow.softmax(dim=1), rgb.softmax(dim=1)
        scores = self.weights[0] * flow + self.weights[1] * rgb
        of_scores = self._sums == "scores"
        probabilities = scores.softmax(dim=1) if of_scores else scores / scores.sum(dim=1, keepdim=True)
        made = {"probabilities": probabilities, "scores": scores}
        if self.weights.ndim == 1:
            made["weights"] = self.weights.expand(scores.shape[0], 2)
        return made


def fusion_graph(chosen: ChosenFusion) -> nn.Module:
    """Return a fitted fusion as a module from the tensors of `clip_tensors`.

    Raises
    ------
    InvalidParameterError
        The fusion computes what no graph here does.
    """
    fusion: Fusion = chosen.fusion
    if isinstance(fusion, Gating):
        return GateGraph(fusion.fixed)
    if isinstance(fusion, FixedWeights):
        return ConstantGraph((fusion.flow, fusion.rgb), sums=fusion.sums)
    if isinstance(fusion, Search) and fusion.fraction is not None:
        return ConstantGraph((fusion.fraction, 1 - fusion.fraction), sums=fusion.sums)
    if isinstance(fusion, LearnedWeights) and fusion.weights is not None:
        weights = fusion.weights if fusion.per_class else fusion.weights[:, 0]
        return ConstantGraph(weights)
    if isinstance(fusion, Calibrated) and fusion.temperatures is not None:
        if fusion.sums == "probabilities":
            return ConstantGraph((0.5, 0.5), temperatures=fusion.temperatures, sums="probabilities")
        flow, rgb = (0.5 / T for T in fusion.temperatures)
        return ConstantGraph((flow, rgb))
    raise InvalidParameterError(
        "to be exported the fusion must be the gate, or have the same weights for each clip; got "
        f"{chosen.name!r}, which `flowkit predict` computes. A run of --fusion gating or search can be"
    )
