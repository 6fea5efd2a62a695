"""Every parameter that learns is in one group, at TSN's learning rate, which follows the schedule."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from gating.config import GateConfig, Modality, Schedule, StreamConfig
from gating.models.gate import GatingConvNet
from gating.models.streams import Stream
from gating.training.optimizer import ParameterGroup, lr_factor, parameter_groups


def lrs_and_decays(groups: list[ParameterGroup]) -> dict[str, tuple[float, float]]:
    return {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}


@pytest.mark.parametrize(("modality", "first"), [("rgb", 1), ("flow", 5)])
def test_learning_rates_are_tsns(modality: Modality, first: int) -> None:
    stream = Stream(StreamConfig(modality=modality, num_classes=3, backbone="bn_inception"))
    groups = parameter_groups(stream, lr=0.1, weight_decay=0.01)
    expected = {"weight": (0.1, 0.01), "bias": (0.2, 0.0), "norm": (0.1, 0.0)}
    if first == 5:
        expected["weight of the first convolution"] = (0.5, 0.01)
        expected["bias of the first convolution"] = (1.0, 0.0)
    assert {name: pytest.approx(one) for name, one in expected.items()} == lrs_and_decays(groups)


def test_a_flow_stream_within_a_network_has_its_lr_too() -> None:
    flow, rgb = (
        Stream(StreamConfig(modality=one, num_classes=3, backbone="small")) for one in ("flow", "rgb")
    )
    groups = parameter_groups(torch.nn.ModuleList([flow, rgb]), lr=0.1, weight_decay=0.0)
    (boosted,) = (group for group in groups if group["name"] == "weight of the first convolution")
    assert boosted["lr"] == pytest.approx(0.5)
    assert [id(one) for one in boosted["params"]] == [id(next(flow.backbone.parameters()))]


def test_each_learning_parameter_is_in_exactly_one_group() -> None:
    stream = Stream(StreamConfig(modality="flow", num_classes=3, backbone="resnet18"))
    grouped = [id(p) for group in parameter_groups(stream, lr=1.0, weight_decay=0.0) for p in group["params"]]
    learning = {id(parameter) for parameter in stream.parameters() if parameter.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == learning


def test_frozen_norms_are_in_no_group_and_optimisers_take_the_groups() -> None:
    gate = GatingConvNet(config=GateConfig(num_classes=3, tap_channels=8, width=0.05, normalization="frozen"))
    groups = parameter_groups(gate, lr=0.001, weight_decay=5e-4)
    assert lrs_and_decays(groups) == {"weight": (0.001, 5e-4), "bias": (0.002, 0.0)}
    optimizer = torch.optim.SGD([dict(group) for group in groups], lr=0.001, momentum=0.9)
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.002]


def test_steps_fall_to_a_tenth_after_each_milestone() -> None:
    schedule = Schedule(epochs=10, lr=1.0, decay="steps", milestones=(4, 8))
    assert [round(lr_factor(schedule, epoch), 6) for epoch in (0, 3.99, 4, 7.9, 8)] == [1, 1, 0.1, 0.1, 0.01]


def test_cosine_rises_over_the_warm_up_and_ends_at_zero() -> None:
    schedule = Schedule(epochs=11, lr=1.0, decay="cosine", warmup_epochs=1)
    assert [round(lr_factor(schedule, epoch), 6) for epoch in (0, 0.5, 1, 6, 11)] == [0, 0.5, 1, 0.5, 0]
