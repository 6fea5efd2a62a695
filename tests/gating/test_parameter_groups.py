"""Every parameter that learns is in one group, at TSN's rate."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from gating.config import GateConfig, Modality, StreamConfig
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream
from gating.parameter_groups import ParameterGroup, parameter_groups


def rates(groups: list[ParameterGroup]) -> dict[str, tuple[float, float]]:
    return {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}


@pytest.mark.parametrize(("modality", "first"), [("rgb", 1), ("flow", 5)])
def test_rates_are_tsns(modality: Modality, first: int) -> None:
    stream = Stream(StreamConfig(modality=modality, num_classes=3, backbone="bn_inception"))
    groups = parameter_groups(stream, lr=0.1, weight_decay=0.01)
    expected = {"weight": (0.1, 0.01), "bias": (0.2, 0.0), "norm": (0.1, 0.0)}
    if first == 5:
        expected["weight of the first convolution"] = (0.5, 0.01)
        expected["bias of the first convolution"] = (1.0, 0.0)
    assert {name: pytest.approx(rate) for name, rate in expected.items()} == rates(groups)


def test_each_learning_parameter_is_in_exactly_one_group() -> None:
    stream = Stream(StreamConfig(modality="flow", num_classes=3, backbone="resnet18"))
    grouped = [id(p) for group in parameter_groups(stream, lr=1.0, weight_decay=0.0) for p in group["params"]]
    learning = {id(parameter) for parameter in stream.parameters() if parameter.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == learning


def test_frozen_norms_are_in_no_group_and_optimisers_take_the_groups() -> None:
    gate = GatingConvNet(config=GateConfig(num_classes=3, tap_channels=8, width=0.05, normalization="frozen"))
    groups = parameter_groups(gate, lr=0.001, weight_decay=5e-4)
    assert rates(groups) == {"weight": (0.001, 5e-4), "bias": (0.002, 0.0)}
    optimizer = torch.optim.SGD([dict(group) for group in groups], lr=0.001, momentum=0.9)
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.002]
