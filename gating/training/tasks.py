"""The tasks that the loop trains, a stream alone or the gate on two frozen streams, and their stages.

A task maps a batch to a loss and holds the one network that learns (`Task`); a stage holds its clips, its
schedule and its folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gating.config import AugmentConfig, Modality, Schedule
from gating.data.loader import BOTH, InputBatch
from gating.models.gate import GateOutput, GatingConvNet, fuse, gate_loss
from gating.models.loss import cross_entropy
from gating.models.streams import Stream, StreamOutput


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The clips, the schedule and the folder that one network is trained with.

    Parameters
    ----------
    name : str
        Such as "rgb", "fold0/flow" or "gate".
    folder : Path
        Of its checkpoints.
    schedule : Schedule
    augment : AugmentConfig
    train_ids, validation_ids : sequence of str
        Ids to learn from, and ids that pick the best epoch; without any the last epoch is taken.
    identity : mapping
        Plain values that decide the result; a checkpoint of another identity is refused.
    patience : int or None
        Epochs without a better validation value after which the stage ends, >= 1; None is never.
    resume : bool
        Go on with an unfinished stage, which is an error otherwise.
    checkpoint_seconds : float
        Between checkpoints within an epoch; each epoch's end is saved, in any case.
    """

    name: str
    folder: Path
    schedule: Schedule
    augment: AugmentConfig
    train_ids: Sequence[str]
    validation_ids: Sequence[str]
    identity: Mapping[str, object]
    patience: int | None = None
    resume: bool = False
    checkpoint_seconds: float = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutput:
    """A task's loss and scores of B clips.

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


class Task(nn.Module):
    """A task of the loop: it maps a batch to a loss, and holds the one network that learns.

    Attributes
    ----------
    modalities : tuple of {"flow", "rgb"}
        Of the batches that it reads.
    """

    modalities: tuple[Modality, ...]

    @property
    def learner(self) -> nn.Module:
        """The network that learns."""
        raise NotImplementedError

    def forward(self, batch: InputBatch) -> TaskOutput:
        """Return the loss of a batch."""
        raise NotImplementedError


class StreamTask(Task):
    """Cross-entropy of one stream's consensus.

    Parameters
    ----------
    stream
        Learns.
    class_weights
        (C,), on the stream's device; None is 1 for each class.
    """

    def __init__(self, stream: Stream, *, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.stream = stream
        self._class_weights = class_weights
        self.modalities = (stream.config.modality,)

    @property
    def learner(self) -> Stream:
        """The network that learns."""
        return self.stream

    def forward(self, batch: InputBatch) -> TaskOutput:
        """Return the loss of a batch."""
        scores = self.stream(batch.of(self.modalities[0])).consensus.float()
        loss = cross_entropy(scores, batch.labels, self._class_weights)
        return TaskOutput(loss=loss, scores=scores.detach())


class GateTask(Task):
    """The gate's loss on the scores of frozen streams, whose dropout stays on while it learns.

    Parameters
    ----------
    gate
        Learns.
    flow, rgb
        The final streams: the gate reads their feature maps, here and at test.
    out_of_fold
        Pairs (flow, rgb) of streams, each trained without one fold. In training, a clip's scores
        come from the pair that `fold_of` names; without such pairs, from the final streams.
    fold_of
        Number of each training clip's fold, by id.
    class_weights
        (C,), on the gate's device; None is 1 for each class.
    """

    modalities: tuple[Modality, ...] = BOTH

    def __init__(
        self,
        gate: GatingConvNet,
        flow: Stream,
        rgb: Stream,
        *,
        out_of_fold: Sequence[tuple[Stream, Stream]] = (),
        fold_of: Mapping[str, int] | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.gate = gate
        self._class_weights = class_weights
        self.flow, self.rgb = flow.freeze(), rgb.freeze()
        self._out_of_fold = tuple(out_of_fold)
        # Registered, so that `train` reaches their dropout.
        self.out_of_fold = nn.ModuleList(stream.freeze() for pair in out_of_fold for stream in pair)
        self._fold_of = dict(fold_of or {})

    @property
    def learner(self) -> GatingConvNet:
        """The network that learns."""
        return self.gate

    def forward(self, batch: InputBatch) -> TaskOutput:
        """Return the loss of a batch."""
        with torch.no_grad():
            flow, rgb = self.flow(batch.of("flow")), self.rgb(batch.of("rgb"))
            scores = self._scores(batch, flow, rgb)
        output = _float(self.gate(flow.feature_map, rgb.feature_map))
        fused = fuse(output.gates, *scores)
        config, weights = self.gate.config, self._class_weights
        loss = gate_loss(output, fused, batch.labels, config=config, class_weights=weights)
        parts = {name: getattr(loss, name).detach() for name in ("fused", "auxiliary", "prior")}
        return TaskOutput(loss=loss.total, scores=fused.detach(), parts=parts, gates=output.gates.detach())

    def _scores(self, batch: InputBatch, flow: StreamOutput, rgb: StreamOutput) -> tuple[Tensor, Tensor]:
        """Return flow's and rgb's scores (B, K, C) for the gate to weigh."""
        if not self.training or not self._out_of_fold:
            return flow.scores.float(), rgb.scores.float()
        folds = [self._fold_of[video_id] for video_id in batch.ids]
        both = [torch.empty_like(one.scores, dtype=torch.float32) for one in (flow, rgb)]
        for fold in sorted(set(folds)):
            own = torch.tensor([k for k, one in enumerate(folds) if one == fold])
            own = own.to(batch.labels.device, non_blocking=True)
            for scores, stream, modality in zip(both, self._out_of_fold[fold], BOTH, strict=True):
                scores[own] = stream(batch.of(modality)[own]).scores.float()
        return both[0], both[1]


def _float(output: GateOutput) -> GateOutput:
    """Return the output in float32, which the losses need under mixed precision."""
    return GateOutput(output.raw.float(), output.gates.float(), output.auxiliary.float())
