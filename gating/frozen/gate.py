"""The gating ConvNet on kept maps: fitted on held-out scores, near the best fixed weights of these.

Few clips say little about a gate. It starts from the pair of weights that fits all of them best, and its
prior draws it back there. Held-out clips then choose the share of its own weights that it keeps, the rest
being those of the pair: none where it gains nothing. What a gate gives a clip that it learned from is never
used to judge it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flowkit.errors import InvalidParameterError
from gating.config import GateConfig, Modality, Schedule
from gating.data.balance import class_weights
from gating.data.loader import BOTH
from gating.evaluation.scores import ClipScores
from gating.frozen.clips import TwoStreams
from gating.fusions.fixed import Search
from gating.fusions.learned import PRIOR, minimise
from gating.models.gate import GatingConvNet, activate, fuse, gate_loss, with_fallback
from gating.training.optimizer import build_optimizer, lr_factor, parameter_groups, set_lr

LEAST_WEIGHT = 0.005
"""Of the weights to start from, a fraction of their sum, half a step of the search: at zero ReLU has no
gradient."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of its own weights that a gate may keep."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateFit:
    """The data of a gate's fit: the maps and the held-out scores of N clips."""

    clips: TwoStreams
    scores: ClipScores

    def part(self, rows: NDArray[np.intp]) -> GateFit:
        """Return some clips of it."""
        ids = tuple(self.scores.ids[k] for k in rows)
        return GateFit(clips=self.clips.of_clips(ids), scores=self.scores.of_rows(rows))


def best_weights(scores: ClipScores) -> tuple[float, float]:
    """Return the best fixed weights of flow and rgb: their ratio by top-1, their sum by cross-entropy.

    Each is `LEAST_WEIGHT` of their sum at least. A gate that keeps nothing of its own is the baseline
    "search", but where that is one stream alone, to which this adds as much of the other.
    """
    data = scores.fusion_data()
    search = Search()
    search.fit(data, seed=0)
    fused, labels = torch.from_numpy(search.apply(data)), torch.from_numpy(scores.labels)
    log_sum = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return F.cross_entropy(log_sum.exp() * fused, labels) + PRIOR * log_sum.square()

    minimise([log_sum], loss, gradient=1e-4)
    whole = float(log_sum.detach().exp())
    flow, rgb = (whole * max(LEAST_WEIGHT, float(one)) for one in search.clip_weights(data)[0])
    return flow, rgb


def fit_gate(
    fit: GateFit,
    config: GateConfig,
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    balanced: bool = False,
) -> GatingConvNet:
    """Train a gate; the same clips, configuration and seed give the same.

    Parameters
    ----------
    fit
        The clips.
    config
        Of the gate; the best fixed weights replace its `fixed`.
    schedule
        Epochs, batches and rates; the last epoch is taken.
    seed
        Of the start, the batches and the dropout.
    device
        Of the gate.
    balanced
        Weigh each clip by its class, inversely proportional to the class's clips.
    """
    torch.manual_seed(seed)
    gate = GatingConvNet(config=dataclasses.replace(config, fixed=best_weights(fit.scores)))
    gate.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flow_maps, rgb_maps = (_maps(fit.clips, one, device) for one in BOTH)
    flow, rgb = (_scores(one, device) for one in (fit.scores.flow, fit.scores.rgb))
    labels = torch.from_numpy(fit.scores.labels).to(device)
    weights = class_weights(fit.scores.labels, len(fit.scores.classes)) if balanced else None
    own = None if weights is None else torch.from_numpy(weights).float().to(device)
    groups = parameter_groups(gate, lr=schedule.lr, weight_decay=schedule.weight_decay)
    optimizer = build_optimizer(groups, schedule)
    gate.train()
    for epoch in range(schedule.epochs):
        batches = _batches(len(labels), schedule.batch)
        for number, rows in enumerate(batches):
            set_lr(optimizer, groups, lr_factor(schedule, epoch + number / len(batches)))
            output = gate(flow_maps[rows], rgb_maps[rows])
            fused = fuse(output.gates, flow[rows], rgb[rows])
            loss = gate_loss(output, fused, labels[rows], config=gate.config, class_weights=own)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call,unused-ignore]
            optimizer.step()
    gate.eval()
    return gate


def shrunk(gate: GatingConvNet, share: float) -> GatingConvNet:
    """Return a gate whose weights are `share` of a gate's own and the rest of its fixed ones, before ReLU."""
    drawn = copy.deepcopy(gate)
    fixed = torch.tensor(gate.config.fixed, device=gate.fc_gate.bias.device)
    with torch.no_grad():
        drawn.fc_gate.weight.mul_(share)
        drawn.fc_gate.bias.mul_(share).add_((1 - share) * fixed)
    return drawn


def chosen_share(held_out: Mapping[float, ClipScores]) -> float:
    """Return the least share whose cross-entropy is within one standard error of the least one's.

    Parameters
    ----------
    held_out
        By share, scores of the same clips by gates that did not learn from them.

    Source: Breiman et al., "Classification and Regression Trees", 1984, 3.4.3: the rule of one standard
    error, here of the paired differences.
    """
    losses = {share: _losses(scores) for share, scores in held_out.items()}
    least = min(losses, key=lambda share: (losses[share].mean(), share))
    for share in sorted(losses):
        excess = losses[share] - losses[least]
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            break
    return share


def _losses(scores: ClipScores) -> NDArray[np.float64]:
    """Return each clip's cross-entropy of the gate's fused scores, nats."""
    assert scores.gated is not None
    fused, labels = torch.from_numpy(scores.gated), torch.from_numpy(scores.labels)
    losses: NDArray[np.float64] = F.cross_entropy(fused, labels, reduction="none").numpy()
    return losses


def gated(gate: GatingConvNet, clips: TwoStreams, scores: ClipScores) -> ClipScores:
    """Return the scores with the gate's weights and fused scores of each clip."""
    return gated_by_share(gate, clips, scores, shares=(1.0,))[1.0]


@torch.inference_mode()
def gated_by_share(
    gate: GatingConvNet, clips: TwoStreams, scores: ClipScores, *, shares: Sequence[float]
) -> dict[float, ClipScores]:
    """Return, by share, the scores with the weights and fused scores of the gate drawn to it, by one pass."""
    device = next(gate.parameters()).device
    raw = gate(_maps(clips, "flow", device), _maps(clips, "rgb", device)).raw.float()
    fixed = torch.tensor(gate.config.fixed, device=device)
    return {share: _weighed(share * raw + (1 - share) * fixed, gate.config, scores) for share in shares}


def _weighed(raw: Tensor, config: GateConfig, scores: ClipScores) -> ClipScores:
    device = raw.device
    gates = activate(raw, config)
    gates = gates if gates.ndim == 2 else gates.mean(dim=1)
    alive = with_fallback(gates, config.fixed)
    fused = fuse(alive, _scores(scores.flow, device), _scores(scores.rgb, device))
    return dataclasses.replace(scores, gates=gates.double().cpu().numpy(), gated=fused.double().cpu().numpy())


def _maps(clips: TwoStreams, modality: Modality, device: torch.device) -> Tensor:
    maps = clips.of(modality).maps
    if maps is None:
        raise InvalidParameterError(f"the gate reads maps of both streams, got none of {modality}")
    tensor = torch.from_numpy(maps).to(device).float()
    return tensor.contiguous(memory_format=torch.channels_last)[:, None]  # a third less time on a CPU


def _scores(scores: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(scores).to(device).float()[:, None]


def _batches(count: int, size: int) -> list[Tensor]:
    """Return shuffled rows in even batches: a batch norm learns nothing from a single clip."""
    order = torch.randperm(count)
    return [rows for rows in order.chunk(max(1, round(count / size))) if len(rows) > 1]
