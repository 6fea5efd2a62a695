"""The losses of both tasks, and one step of the gate from a store's clips."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from flowkit.datasets import ClipDataset
from flowkit.store.codecs.codec import FlowForm
from gating.config import AugmentConfig, GateConfig, Modality, StreamConfig, gate_preset
from gating.data.augment import draw_crops, flow_codes, flow_input, rgb_input
from gating.data.loader import InputBatch
from gating.models.gate import GatingConvNet, fuse, gate_loss
from gating.models.streams import Stream, check_same_features
from gating.training.optimizer import parameter_groups
from gating.training.tasks import GateTask, StreamTask
from tests.make.small import run

MODALITIES: tuple[Modality, Modality] = ("flow", "rgb")


@pytest.mark.parametrize("form", ["codes", "px", "tsn"])
def test_a_batch_of_a_store_trains_the_gate_alone(videos: Path, store: Path, form: FlowForm) -> None:
    run(videos, store)
    dataset = ClipDataset(store, segments=2, stack=2, flow_form=form)
    (batch,) = DataLoader(dataset, batch_size=2)
    config = AugmentConfig(size=32)
    flow_stream, rgb_stream = (
        Stream(StreamConfig(modality=modality, num_classes=3, backbone="small", stack=2))
        for modality in MODALITIES
    )
    check_same_features(flow_stream, rgb_stream)
    crops = draw_crops(2, tuple(batch["rgb"].shape[-2:]), config, torch.Generator().manual_seed(0))
    codes = flow_codes(
        batch["flow"],
        batch["flow_scale"],
        bound_px=config.bound_px,
        offset_px=dataset.flow_offset_px,
    )
    flow = flow_stream.freeze().train()(
        flow_input(codes, crops, flow_stream.backbone.inputs, size=config.size)
    )
    rgb = rgb_stream.freeze().train()(
        rgb_input(batch["rgb"], crops, rgb_stream.backbone.inputs, size=config.size)
    )

    gate = GatingConvNet(config=gate_preset("tiny", 3)).train()
    groups = parameter_groups(gate, lr=0.1, weight_decay=0.0)
    optimizer = torch.optim.SGD([dict(group) for group in groups], lr=0.1)
    before = {name: value.clone() for name, value in gate.named_parameters()}
    streams = {name: value.clone() for name, value in flow_stream.state_dict().items()}
    out = gate(flow.feature_map, rgb.feature_map)
    fused = fuse(out.gates, flow.scores, rgb.scores)
    loss = gate_loss(out, fused, torch.tensor([0, 2]), config=gate.config)
    loss.total.backward()  # type: ignore[no-untyped-call,unused-ignore]
    optimizer.step()
    # A batch norm cancels the bias in front of it: only the kernels must move.
    kernels = {name: value for name, value in gate.named_parameters() if value.ndim > 1}
    assert not [name for name, value in kernels.items() if torch.equal(value, before[name])]
    assert all(torch.equal(value, streams[name]) for name, value in flow_stream.state_dict().items())


def stream(modality: Modality) -> Stream:
    config = StreamConfig(
        modality=modality, num_classes=3, backbone="small", stack=1, dropout=0.0, partial_bn=False
    )
    return Stream(config)


def batch() -> InputBatch:
    """Four clips of one segment, 32 px."""
    rng = torch.Generator().manual_seed(0)
    return InputBatch(
        ids=["a", "b", "c", "d"],
        labels=torch.tensor([0, 1, 2, 0]),
        flow=torch.randn(4, 1, 2, 32, 32, generator=rng),
        rgb=torch.randn(4, 1, 3, 32, 32, generator=rng),
    )


def test_a_stream_learns_from_the_cross_entropy_of_its_consensus() -> None:
    task = StreamTask(stream("rgb")).eval()
    output = task(batch())
    scores = task.stream(batch().of("rgb")).consensus
    assert task.modalities == ("rgb",)
    torch.testing.assert_close(output.loss, F.cross_entropy(scores, batch().labels))
    assert torch.equal(output.scores, scores)
    assert not output.scores.requires_grad
    assert output.gates is None


def gate_task(*, out_of_fold: bool) -> GateTask:
    gate = GatingConvNet(config=GateConfig(num_classes=3, tap_channels=64, width=0.125, dropout=0.0))
    pairs = [(stream("flow"), stream("rgb")) for _ in range(2)] if out_of_fold else []
    folds = {"a": 0, "b": 1, "c": 1, "d": 0}
    return GateTask(gate, stream("flow"), stream("rgb"), out_of_fold=pairs, fold_of=folds)


def test_the_gate_learns_from_the_streams_of_each_clips_fold() -> None:
    task = gate_task(out_of_fold=True).train()
    output = task(batch())
    assert output.gates is not None
    folds = [0, 1, 1, 0]
    streams = [task.out_of_fold[2 * fold : 2 * fold + 2] for fold in folds]
    for k, (flow, rgb) in enumerate(streams):
        expected = fuse(
            output.gates[k : k + 1],
            flow(batch().of("flow")[k : k + 1]).scores,
            rgb(batch().of("rgb")[k : k + 1]).scores,
        )
        torch.testing.assert_close(output.scores[k : k + 1], expected, rtol=1e-4, atol=1e-5)


def test_the_gate_is_validated_on_the_final_streams() -> None:
    task = gate_task(out_of_fold=True).eval()
    output = task(batch())
    assert output.gates is not None
    flow, rgb = task.flow(batch().of("flow")), task.rgb(batch().of("rgb"))
    torch.testing.assert_close(output.scores, fuse(output.gates, flow.scores, rgb.scores))


def test_only_the_gate_learns_and_its_loss_has_three_parts() -> None:
    task = gate_task(out_of_fold=False).train()
    output = task(batch())
    output.loss.backward()
    learning = [name for name, parameter in task.named_parameters() if parameter.requires_grad]
    assert learning
    assert all(name.startswith("gate.") for name in learning)
    assert list(output.parts) == ["fused", "auxiliary", "prior"]
