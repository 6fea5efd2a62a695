"""The gate against the release's table of shapes, and its start, loss and freezing."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from flowkit.errors import InvalidParameterError
from gating.config import Activation, GateConfig, Variant
from gating.models.gate import (
    GateOutput,
    GatingConvNet,
    activate,
    fuse,
    gate_loss,
    join,
    start_of,
    with_fallback,
)

B, K = 2, 3


def maps(channels: int = 1056, side: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    flow, rgb = torch.rand(2, B, K, channels, side, side, generator=rng)
    return flow, rgb


def tiny(**choices: object) -> GateConfig:
    return GateConfig(**{"num_classes": 5, "tap_channels": 16, "width": 0.05, **choices})  # type: ignore[arg-type]


def record_shapes(net: GatingConvNet) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in net.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, out, name=name: (
                shapes.update({name: tuple(out.shape)}) if isinstance(out, torch.Tensor) else None
            )
        )
    return shapes


@pytest.mark.parametrize(("variant", "parameters"), [("A", 6_828_647), ("B", 5_818_983)])
def test_released_variants_have_the_releases_parameters(variant: Variant, parameters: int) -> None:
    net = GatingConvNet(num_classes=101, variant=variant)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@pytest.mark.parametrize(
    ("variant", "joined", "rows", "pooled"), [("A", 2112, 7, 1024), ("B", 1056, 14, 2048)]
)
def test_every_shape_of_the_releases_table(variant: Variant, joined: int, rows: int, pooled: int) -> None:
    net = GatingConvNet(num_classes=101, variant=variant).eval()
    shapes = record_shapes(net)
    flow, rgb = maps()
    both = join(flow.flatten(0, 1), rgb.flatten(0, 1), net.config)
    with torch.no_grad():
        out = net(flow, rgb)
    n = B * K
    assert tuple(both.shape) == (n, joined, rows, 7)
    assert shapes["combine"] == (n, 1056, rows, 7)
    for block, reduce in (("inception_5a", 160), ("inception_5b", 192)):
        widths = {
            "1x1": 352,
            "3x3_reduce": 192,
            "3x3": 320,
            "double_3x3_reduce": reduce,
            "double_3x3_1": 224,
            "double_3x3_2": 224,
            "pool_proj": 128,
        }
        assert {unit: shapes[f"{block}_{unit}"] for unit in widths} == {
            unit: (n, width, rows, 7) for unit, width in widths.items()
        }
    assert net.get_submodule("inception_5b_1x1").in_channels == 352 + 320 + 224 + 128 == 1024
    assert shapes["dropout"] == (n, pooled)
    assert shapes["fc_gate"] == (n, 2)
    assert shapes["fc_auxiliary"] == (n, 101)
    assert tuple(out.gates.shape) == (B, 2)
    assert tuple(out.auxiliary.shape) == (B, 101)
    assert tuple(fuse(out.gates, torch.zeros(B, K, 101), torch.zeros(B, K, 101)).shape) == (B, 101)


@pytest.mark.parametrize(("variant", "dropout"), [("A", 0.9), ("B", 0.8)])
def test_released_layers_start_as_caffe_fills_them(variant: Variant, dropout: float) -> None:
    net = GatingConvNet(variant=variant)
    assert net.dropout.p == dropout
    assert torch.equal(net.fc_gate.bias, torch.zeros(2))
    # 2,048 and more draws of deviation .001: the sample's is within a tenth.
    assert abs(float(net.fc_gate.weight.detach().std()) - 1e-3) < 1e-4
    assert torch.equal(net.state_dict()["combine.bias"], torch.full((1056,), 0.2))
    limit = math.sqrt(3 / net.combine.in_channels)
    largest = float(net.combine.weight.detach().abs().max())
    assert 0.99 * limit < largest <= limit


def test_the_released_norms_stay_as_initialised() -> None:
    net = GatingConvNet(config=tiny(normalization="frozen")).train()
    net(*maps(16, 4))
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 14
    assert not any(norm.training or norm.weight.requires_grad or norm.bias.requires_grad for norm in norms)
    for name, value in net.state_dict().items():
        if "running" in name:
            assert torch.equal(value, torch.full_like(value, float("var" in name)))


def test_variant_b_keeps_each_streams_half_apart() -> None:
    # Pooling by halves equals the release's 7x7 pool with stride 7 on a map of 14x7.
    halves = torch.rand(1, 4, 14, 7)
    pooled = F.adaptive_avg_pool2d(halves, (2, 1))
    # float32 means of 49 numbers in another order.
    torch.testing.assert_close(pooled, F.avg_pool2d(halves, 7, stride=7), rtol=1e-6, atol=1e-6)


def test_flow_comes_first() -> None:
    flow, rgb = torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    assert join(flow, rgb, tiny(combine="concat"))[0, :, 0, 0].tolist() == [1, 1, 0, 0]
    assert join(flow, rgb, tiny(combine="height"))[0, 0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert join(flow, rgb, tiny(combine="sum")).shape == (1, 2, 3, 3)
    scores = torch.ones(1, 1, 2)
    assert fuse(torch.tensor([[3.0, 0.0]]), scores, 5 * scores).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("combine", ["concat", "height", "sum"])
@pytest.mark.parametrize("activation", ["relu", "softmax", "sigmoid"])
@pytest.mark.parametrize("placement", ["consensus", "snippet"])
def test_every_gate_starts_from_the_fixed_fusion(combine: str, activation: str, placement: str) -> None:
    config = tiny(combine=combine, activation=activation, placement=placement)
    net = GatingConvNet(config=config).eval()
    torch.nn.init.zeros_(net.fc_gate.weight)
    with torch.no_grad():
        out = net(*maps(16, 4))
    assert out.gates.shape == ((B, 2) if placement == "consensus" else (B, K, 2))
    # float32 log and exp, there and back.
    torch.testing.assert_close(
        out.gates, torch.tensor([1.5, 1.0]).expand(out.gates.shape), rtol=1e-6, atol=1e-6
    )


def test_activations_from_zero_are_the_papers() -> None:
    raw = torch.tensor([[2.0, -1.0]])
    config = tiny(start="zero")
    assert activate(raw, config).tolist() == [[2.0, 0.0]]
    for name, expected in (("softmax", torch.softmax(raw, -1)), ("sigmoid", torch.sigmoid(raw))):
        torch.testing.assert_close(activate(raw, tiny(start="zero", activation=name)), expected)
    assert start_of(config).tolist() == [0, 0]


def test_consensus_activates_the_mean_and_snippets_their_own() -> None:
    flow, rgb = maps(16, 4)
    nets = {name: GatingConvNet(config=tiny(placement=name)).eval() for name in ("consensus", "snippet")}
    nets["snippet"].load_state_dict(nets["consensus"].state_dict())
    with torch.no_grad():
        # Weights that put the mean gate at zero: ReLU cuts some segments' gates, not all.
        feature = nets["consensus"].pooled(flow.flatten(0, 1), rgb.flatten(0, 1))
        for net in nets.values():
            net.fc_gate.weight.fill_(1e4)
            net.fc_gate.bias.copy_(-1e4 * feature.sum(dim=1).mean().expand(2))
        whole, parts = nets["consensus"](flow, rgb), nets["snippet"](flow, rgb)
    # float32 differences of numbers of order 1e4: some 1e-3.
    torch.testing.assert_close(whole.raw, parts.raw.mean(1), rtol=1e-4, atol=0.1)
    assert bool((parts.raw > 0).any() and (parts.raw < 0).any())
    assert float((whole.gates - parts.gates.mean(1)).abs().max()) > 1


def test_snippets_are_weighed_before_their_mean() -> None:
    gates = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    flow = torch.tensor([[[1.0, 0.0], [8.0, 8.0]]])
    rgb = torch.tensor([[[9.0, 9.0], [0.0, 3.0]]])
    assert fuse(gates, flow, rgb).tolist() == [[0.5, 3.0]]


def test_the_loss_adds_its_parts_by_their_weights() -> None:
    config = tiny(auxiliary_weight=0.3, prior=0.1)
    raw = torch.tensor([[1.5, 1.0], [2.5, 1.0]])
    output = GateOutput(raw, raw, torch.randn(2, 5))
    fused, labels = torch.randn(2, 5), torch.tensor([1, 4])
    loss = gate_loss(output, fused, labels, config=config)
    assert float(loss.prior) == pytest.approx(0.5)
    expected = F.cross_entropy(fused, labels) + 0.3 * F.cross_entropy(output.auxiliary, labels) + 0.1 * 0.5
    torch.testing.assert_close(loss.total, expected)


def test_the_prior_revives_a_gate_that_relu_has_cut_off() -> None:
    # Both gates dead: the fused loss gives no gradient, the prior on the pre-activation does.
    raw = torch.full((1, 2), -1.0, requires_grad=True)
    scores, labels = torch.randn(1, 1, 5), torch.tensor([0])
    for prior, moves in ((0.0, False), (0.1, True)):
        config = tiny(prior=prior, auxiliary_weight=0.0)
        gates = activate(raw, config)
        output = GateOutput(raw, gates, torch.zeros(1, 5))
        total = gate_loss(output, fuse(gates, scores, scores), labels, config=config).total
        (gradient,) = torch.autograd.grad(total, raw)
        assert bool((gradient < 0).all()) is moves


@pytest.mark.parametrize("placement", ["consensus", "snippet"])
def test_a_gate_learns_which_stream_to_trust(placement: str) -> None:
    """Half of the clips show a mark; there flow is wrong, elsewhere rgb is: no fixed weights are right."""
    torch.manual_seed(3)
    config = tiny(placement=placement, dropout=0.0, auxiliary_weight=0.0, width=0.1)
    net = GatingConvNet(config=config).train()
    labels = torch.arange(40) % 5
    marked = torch.arange(40) % 2 == 0
    truth, wrong = 4 * F.one_hot(labels, 5).float(), 4 * F.one_hot((labels + 1) % 5, 5).float()
    flow = torch.where(marked[:, None], wrong, truth)[:, None].expand(-1, 2, -1)
    rgb = torch.where(marked[:, None], truth, wrong)[:, None].expand(-1, 2, -1)
    seen = torch.rand(40, 2, 16, 3, 3) + marked[:, None, None, None, None]
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(30):
        out = net(seen, torch.rand(40, 2, 16, 3, 3))
        loss = gate_loss(out, fuse(out.gates, flow, rgb), labels, config=config).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        optimizer.step()
    fused = fuse(out.gates, flow, rgb)
    assert float((fused.argmax(1) == labels).float().mean()) > 0.95


def test_the_fallback_replaces_only_what_is_dead_on_both_sides() -> None:
    gates = torch.tensor([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    replaced = with_fallback(gates, (1.5, 1.0))
    assert replaced.tolist() == [[1.5, 1.0], [0.0, 2.0], [1.0, 0.0]]


def test_activation_names_are_the_configurations() -> None:
    names: tuple[Activation, ...] = ("relu", "softmax", "sigmoid")
    assert [GateConfig(num_classes=2, activation=name).activation for name in names] == list(names)
    with pytest.raises(InvalidParameterError, match="Invalid activation"):
        GateConfig(num_classes=2, activation="tanh")  # type: ignore[arg-type]
