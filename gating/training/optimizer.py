"""The optimiser of a stage: its parameter groups and its learning rate over the epochs.

Biases learn twice as fast, a flow stream's first convolution five times.

Source: TSN and tsn-pytorch, `get_optim_policies`; the release's `lr_mult` and `decay_mult`.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import nn

from gating.config import Schedule
from gating.models.streams import Stream

# tsn-pytorch: the inflated kernels are the only layer that never saw its input before.
FLOW_FIRST_MULTIPLIER = 5.0
BIAS_MULTIPLIER = 2.0


class ParameterGroup(TypedDict):
    """One group for a torch optimiser."""

    params: list[nn.Parameter]
    name: str
    lr: float
    weight_decay: float


def build_optimizer(groups: list[ParameterGroup], schedule: Schedule) -> torch.optim.Optimizer:
    """Return the optimiser that a schedule names, over parameter groups."""
    copies = [dict(group) for group in groups]  # torch adds its own values to them
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(copies, lr=schedule.lr)
    return torch.optim.SGD(copies, lr=schedule.lr, momentum=schedule.momentum)


def parameter_groups(net: nn.Module, *, lr: float, weight_decay: float) -> list[ParameterGroup]:
    """Return the groups of all parameters that learn, none empty, for `torch.optim`.

    Weights learn at `lr` and decay, biases at twice that and never decay, batch norms at `lr`
    without decay; the first convolution of each flow stream at five times its group's.
    """
    groups: dict[str, ParameterGroup] = {}
    boosted = _first_convolutions(net)
    for module in net.modules():
        is_norm = isinstance(module, nn.BatchNorm2d)
        factor = FLOW_FIRST_MULTIPLIER if module in boosted else 1.0
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_bias = name == "bias" and not is_norm
            key = ("norm" if is_norm else name) + ("" if factor == 1 else " of the first convolution")
            own_lr = lr * factor * (BIAS_MULTIPLIER if is_bias else 1.0)
            decay = 0.0 if is_norm or is_bias else weight_decay
            group = groups.setdefault(key, ParameterGroup(params=[], name=key, lr=own_lr, weight_decay=decay))
            group["params"].append(parameter)
    return list(groups.values())


def _first_convolutions(net: nn.Module) -> set[nn.Module]:
    streams = [module for module in net.modules() if isinstance(module, Stream)]
    return {
        stream.backbone.get_submodule(stream.backbone.first_conv)
        for stream in streams
        if stream.config.modality == "flow"
    }


def set_lr(optimizer: torch.optim.Optimizer, groups: list[ParameterGroup], factor: float) -> None:
    """Set each group's learning rate to its own at the start times a factor."""
    for used, group in zip(optimizer.param_groups, groups, strict=True):
        used["lr"] = group["lr"] * factor


def lr_factor(schedule: Schedule, epoch: float) -> float:
    """Return the multiple of the starting learning rate at a point of training, in epochs from its start."""
    if epoch < schedule.warmup_epochs:
        return epoch / schedule.warmup_epochs
    if schedule.decay == "steps":
        return float(0.1 ** sum(epoch >= milestone for milestone in schedule.milestones))
    if schedule.decay == "cosine":
        done = (epoch - schedule.warmup_epochs) / (schedule.epochs - schedule.warmup_epochs)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    return 1.0
