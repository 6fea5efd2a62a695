"""What the loop trains: a stream alone, or the gate on two frozen streams.

A task maps a batch to a loss and holds the one network that learns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gating.batches import BOTH, ClipBatch
from gating.config import Modality
from gating.models.gate import GateOutput, GatingConvNet, fuse, gate_loss
from gating.models.streams import Stream, StreamOutput


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutput:
    """What a task says of B clips.

    Attributes
    ----------
    loss : Tensor
        Scalar, the mean over the clips.
    scores : Tensor
        float32 (B, C), before softmax, without gradient.
    parts : dict of str to Tensor
        The loss's parts, scalars without gradient.
    gates : Tensor or None
        float32 (B, 2) or (B, K, 2), flow and rgb, without gradient.
    """

    loss: Tensor
    scores: Tensor
    parts: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    gates: Tensor | None = None


class StreamTask(nn.Module):
    """Cross-entropy of one stream's consensus."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.modalities: tuple[Modality, ...] = (stream.config.modality,)

    @property
    def learner(self) -> Stream:
        """The network that learns."""
        return self.stream

    def forward(self, batch: ClipBatch) -> TaskOutput:
        """Return the loss of a batch."""
        scores = self.stream(batch.of(self.modalities[0])).consensus.float()
        return TaskOutput(loss=F.cross_entropy(scores, batch.labels), scores=scores.detach())


class GateTask(nn.Module):
    """The gate's loss on the scores of frozen streams, whose dropout stays on while it learns.

    Parameters
    ----------
    gate
        Learns.
    flow, rgb
        The final streams: their maps are what the gate reads, here and at test.
    copies
        Pairs (flow, rgb) of stream copies, each trained without one fold. In training, a clip's
        scores come from the pair that `fold_of` names; without copies, from the final streams.
    fold_of
        Number of each training clip's fold, by id.
    """

    modalities: tuple[Modality, ...] = BOTH

    def __init__(
        self,
        gate: GatingConvNet,
        flow: Stream,
        rgb: Stream,
        *,
        copies: Sequence[tuple[Stream, Stream]] = (),
        fold_of: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.flow, self.rgb = flow.freeze(), rgb.freeze()
        self.copies = nn.ModuleList(nn.ModuleList([one.freeze() for one in pair]) for pair in copies)
        self._fold_of = dict(fold_of or {})

    @property
    def learner(self) -> GatingConvNet:
        """The network that learns."""
        return self.gate

    def forward(self, batch: ClipBatch) -> TaskOutput:
        """Return the loss of a batch."""
        with torch.no_grad():
            flow, rgb = self.flow(batch.of("flow")), self.rgb(batch.of("rgb"))
            scores = self._scores(batch, flow, rgb)
        output = _float(self.gate(flow.tapped, rgb.tapped))
        fused = fuse(output.gates, *scores)
        loss = gate_loss(output, fused, batch.labels, config=self.gate.config)
        parts = {name: getattr(loss, name).detach() for name in ("fused", "auxiliary", "prior")}
        return TaskOutput(loss=loss.total, scores=fused.detach(), parts=parts, gates=output.gates.detach())

    def _scores(self, batch: ClipBatch, flow: StreamOutput, rgb: StreamOutput) -> tuple[Tensor, Tensor]:
        """Return flow's and rgb's scores (B, K, C) that are weighed."""
        if not self.training or not self.copies:
            return flow.scores.float(), rgb.scores.float()
        folds = torch.tensor([self._fold_of[video_id] for video_id in batch.ids])
        both = [torch.empty_like(one.scores, dtype=torch.float32) for one in (flow, rgb)]
        for fold in sorted(set(folds.tolist())):
            own = (folds == fold).nonzero()[:, 0].to(batch.labels.device)
            for scores, copy, modality in zip(both, self.copies[fold], BOTH, strict=True):
                scores[own] = copy(batch.of(modality)[own]).scores.float()
        return both[0], both[1]


def _float(output: GateOutput) -> GateOutput:
    """Return the output in float32, which the losses want under mixed precision."""
    return GateOutput(output.raw.float(), output.gates.float(), output.auxiliary.float())


Task = StreamTask | GateTask
