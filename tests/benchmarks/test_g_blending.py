"""G-Blending: its weights from made losses, the joint network's loss and heads, and one short run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

import flowkit
from benchmarks.g_blending import (
    HEADS,
    JOINT_ALONE,
    LEAST_OVERFITTING,
    JointNetwork,
    JointTask,
    Losses,
    blend_of,
    with_rival,
)
from benchmarks.gate_campaign import Job
from gating.config import StreamConfig
from gating.data.loader import InputBatch
from gating.evaluation.results import fusion_results
from gating.evaluation.scores import ClipScores
from gating.models.streams import Stream
from tests.make.labelled import five_folds, make_store, quick


def losses(*, fall: float, gap: float) -> tuple[Losses, Losses]:
    """A validation loss that falls from 2 by `fall`, and ends `gap` above the training loss, from none."""
    end = 2.0 - fall
    return Losses(training=2.0, validation=2.0), Losses(training=end - gap, validation=end)


def test_weights_are_generalisation_by_squared_overfitting() -> None:
    measured = {
        "flow": losses(fall=1.0, gap=0.5),
        "rgb": losses(fall=0.5, gap=1.0),
        "joint": losses(fall=1.5, gap=1.0),
    }
    # 1 / .25, .5 / 1 and 1.5 / 1.
    assert blend_of(measured) == pytest.approx((4 / 6, 0.5 / 6, 1.5 / 6))


def test_a_head_that_gets_worse_has_no_weight_and_one_without_overfitting_a_finite_one() -> None:
    measured = {
        "flow": losses(fall=-0.2, gap=0.1),
        "rgb": losses(fall=1.0, gap=0.0),
        "joint": losses(fall=1.0, gap=2 * LEAST_OVERFITTING),
    }
    assert blend_of(measured) == pytest.approx((0.0, 4 / 5, 1 / 5))
    assert blend_of(dict.fromkeys(HEADS, losses(fall=-1.0, gap=1.0))) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.fixture
def network() -> JointNetwork:
    torch.manual_seed(0)
    flow, rgb = (
        Stream(StreamConfig(modality=one, num_classes=3, backbone="small", stack=2))
        for one in ("flow", "rgb")
    )
    joint = JointNetwork(flow, rgb)
    for head in (joint.head, flow.classifier, rgb.classifier):
        torch.nn.init.normal_(head.weight)
    return joint.eval()


@pytest.fixture
def batch() -> InputBatch:
    rng = torch.Generator().manual_seed(1)
    flow, rgb = (torch.randn(4, 2, channels, 32, 32, generator=rng) for channels in (4, 3))
    return InputBatch(ids=["a", "b", "c", "d"], labels=torch.tensor([0, 1, 2, 1]), flow=flow, rgb=rgb)


def test_the_loss_is_the_blend_of_the_heads(network: JointNetwork, batch: InputBatch) -> None:
    heads = network(batch.of("flow"), batch.of("rgb"))
    expected = [F.cross_entropy(one, batch.labels) for one in heads]
    output = JointTask(network, (0.5, 0.3, 0.2))(batch)
    torch.testing.assert_close(output.loss, 0.5 * expected[0] + 0.3 * expected[1] + 0.2 * expected[2])
    assert {name: float(part) for name, part in output.parts.items()} == pytest.approx(
        {name: loss.item() for name, loss in zip(HEADS, expected, strict=True)}
    )
    torch.testing.assert_close(output.scores, heads[2].detach())


def test_a_head_of_no_weight_does_not_learn_and_both_streams_do(
    network: JointNetwork, batch: InputBatch
) -> None:
    JointTask(network, JOINT_ALONE)(batch).loss.backward()
    for head, learns in ((network.flow.classifier, False), (network.head, True)):
        assert head.weight.grad is not None
        assert bool(head.weight.grad.any()) == learns
    for stream in (network.flow, network.rgb):
        first = stream.backbone.get_submodule(stream.backbone.first_conv).weight
        assert isinstance(first, torch.nn.Parameter)
        assert first.grad is not None
        assert bool(first.grad.any())


def test_the_joint_head_is_read_from_mean_features(network: JointNetwork, batch: InputBatch) -> None:
    with torch.no_grad():
        flow, rgb = network.flow(batch.of("flow")), network.rgb(batch.of("rgb"))
        expected = network(batch.of("flow"), batch.of("rgb"))
    clips = ClipScores(
        ids=tuple(batch.ids),
        groups=tuple(batch.ids),
        classes=("a", "b", "c"),
        labels=batch.labels.numpy(),
        flow=flow.consensus.double().numpy(),
        rgb=rgb.consensus.double().numpy(),
        flow_features=flow.features.mean(dim=1).double().numpy(),
        rgb_features=rgb.features.mean(dim=1).double().numpy(),
    )
    found = network.heads_of(clips)
    for name, scores in zip(HEADS, expected, strict=True):
        np.testing.assert_allclose(found[name], scores.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_rival_stands_in_the_table_of_its_trial(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    with flowkit.open(path) as store:
        split = five_folds(store)
    config = dataclasses.replace(quick(gate_data="holdout"), amp=False)
    job = Job(store=path, split=split, fold="0", out=tmp_path / "run", config=config)
    comparison, found = with_rival(job)
    rows = fusion_results([comparison]).fusions
    assert {"joint", "g-blending", "g-blending-heads", "search", "gating"} <= set(rows)
    assert set(found) == {"blend", "losses"}
    blend = found["blend"]
    assert isinstance(blend, dict)
    assert sum(blend.values()) == pytest.approx(1.0)
    # Finished networks are loaded, and give the same scores.
    again, _ = with_rival(job)
    for name in ("joint", "g-blending"):
        np.testing.assert_array_equal(again.fused[name], comparison.fused[name])
