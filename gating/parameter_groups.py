"""Parameters by how fast they learn: biases twice, a flow stream's first convolution five times.

Source: TSN and tsn-pytorch, `get_optim_policies`; the release's `lr_mult` and `decay_mult`.
"""

from __future__ import annotations

from typing import TypedDict

from torch import nn

from gating.models.gate import GatingConvNet
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


def parameter_groups(net: Stream | GatingConvNet, *, lr: float, weight_decay: float) -> list[ParameterGroup]:
    """Return the groups of all parameters that learn, none empty, for `torch.optim`.

    Weights learn at `lr` and decay, biases at twice that and never decay, batch norms at `lr`
    without decay; the first convolution of a flow stream at five times its share.
    """
    groups: dict[str, ParameterGroup] = {}
    boosted = _first_convolution(net)
    for module in net.modules():
        is_norm = isinstance(module, nn.BatchNorm2d)
        factor = FLOW_FIRST_MULTIPLIER if module is boosted else 1.0
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_bias = name == "bias" and not is_norm
            key = ("norm" if is_norm else name) + ("" if factor == 1 else " of the first convolution")
            rate = lr * factor * (BIAS_MULTIPLIER if is_bias else 1.0)
            decay = 0.0 if is_norm or is_bias else weight_decay
            group = groups.setdefault(key, ParameterGroup(params=[], name=key, lr=rate, weight_decay=decay))
            group["params"].append(parameter)
    return list(groups.values())


def _first_convolution(net: Stream | GatingConvNet) -> nn.Module | None:
    if isinstance(net, Stream) and net.config.modality == "flow":
        return net.backbone.get_submodule(net.backbone.first_conv)
    return None
