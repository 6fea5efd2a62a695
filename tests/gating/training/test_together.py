"""From a store's clips to one step of the gate: what the parts hand each other fits."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch.utils.data import DataLoader

from flowkit.datasets import ClipDataset
from flowkit.store.codecs.codec import FlowForm
from gating.config import AugmentConfig, Modality, StreamConfig, gate_preset
from gating.data.augment import draw_crops, flow_codes, flow_input, rgb_input
from gating.models.gate import GatingConvNet, fuse, gate_loss
from gating.models.streams import Stream, check_same_features
from gating.training.optimizer import parameter_groups
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
