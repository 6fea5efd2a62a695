"""The fixed weights that a gate starts from, and the share of its own weights that it keeps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from gating.config import GateConfig
from gating.evaluation.scores import ClipScores
from gating.frozen.clips import StreamClips, TwoStreams
from gating.frozen.gate import LEAST_WEIGHT, best_weights, chosen_share, gated, gated_by_share, shrunk
from gating.fusions.fixed import Search
from gating.fusions.learned import PRIOR
from gating.models.gate import GatingConvNet

CLIPS, FIXED = 40, (2.0, 0.5)
IDS = tuple(f"c{k}" for k in range(CLIPS))


def maps() -> TwoStreams:
    rng = np.random.default_rng(0)
    streams = [StreamClips(maps=rng.normal(size=(CLIPS, 8, 2, 2)).astype(np.float32)) for _ in range(2)]
    return TwoStreams(ids=IDS, flow=streams[0], rgb=streams[1])


def scores(gated: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None = None) -> ClipScores:
    rng = np.random.default_rng(1)
    labels = np.arange(CLIPS) % 2
    return ClipScores(
        ids=IDS,
        groups=IDS,
        classes=("up", "down"),
        labels=labels,
        flow=rng.normal(size=(CLIPS, 2)),
        rgb=rng.normal(size=(CLIPS, 2)),
        gated=gated,
    )


def surely(right: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> ClipScores:
    """Fused scores of a probability of 3/4 for the label where they are right, else of 1/4."""
    labels = np.arange(CLIPS) % 2
    return scores(np.log(3) * np.eye(2)[np.where(right, labels, 1 - labels)])


@pytest.fixture(scope="module")
def gate() -> GatingConvNet:
    torch.manual_seed(0)
    made = GatingConvNet(config=GateConfig(num_classes=2, tap_channels=8, width=0.125, fixed=FIXED))
    with torch.no_grad():  # far from its start, and never cut off by ReLU
        made.fc_gate.weight.normal_(0, 0.1)
        made.fc_gate.bias.copy_(torch.tensor([3.0, 4.0]))
    return made.eval()


def weights_of(one: GatingConvNet) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    found = gated(one, maps(), scores()).gates
    assert found is not None
    return found


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_are_drawn_to_the_fixed_ones(gate: GatingConvNet, share: float) -> None:
    own = weights_of(gate)
    assert own.std(axis=0).min() > 0.01
    expected = share * own + (1 - share) * np.array(FIXED)
    np.testing.assert_allclose(weights_of(shrunk(gate, share)), expected, rtol=1e-5)
    np.testing.assert_array_equal(weights_of(gate), own)  # a copy was drawn
    at_once = gated_by_share(gate, maps(), scores(), shares=(share,))[share]
    assert at_once.gates is not None
    np.testing.assert_allclose(at_once.gates, expected, rtol=1e-5)


def test_a_share_that_is_plainly_better_is_taken() -> None:
    right, wrong = np.full(CLIPS, True), np.full(CLIPS, False)
    assert chosen_share({0.0: surely(wrong), 0.5: surely(wrong), 1.0: surely(right)}) == 1.0


def test_within_a_standard_error_the_least_share_is_taken() -> None:
    # Two clips won and one lost of forty: ln 3 (.025 of a standard error of .047).
    won, lost = ~np.isin(np.arange(CLIPS), [0, 2]), np.arange(CLIPS) != 1
    assert chosen_share({0.0: surely(won), 0.5: surely(lost), 1.0: surely(won)}) == 0.0
    # Four won: ln 3 (.1 of a standard error of .047).
    won, right = np.arange(CLIPS) > 3, np.full(CLIPS, True)
    assert chosen_share({0.0: surely(won), 0.5: surely(right), 1.0: surely(right)}) == 0.5


def test_a_gate_that_never_helps_keeps_nothing() -> None:
    right = np.full(CLIPS, True)
    same = surely(right)
    assert chosen_share({0.0: same, 1.0: dataclasses.replace(same)}) == 0.0


def test_the_fixed_weights_are_the_baseline_s_by_a_sum_that_fits() -> None:
    clips = scores()
    # Flow is right by far and rgb at random: the baseline's ratio, and a sum that no other beats.
    flow = np.eye(2)[clips.labels] * 2 + 0.8 * clips.flow
    clips = dataclasses.replace(clips, flow=flow)
    search = Search()
    search.fit(clips.fusion_data(), seed=0)
    assert search.fraction is not None
    weights = best_weights(clips)
    assert weights[0] / sum(weights) == pytest.approx(search.fraction)
    fused = weights[0] * clips.flow + weights[1] * clips.rgb
    assert (fused.argmax(axis=1) == search.apply(clips.fusion_data()).argmax(axis=1)).all()

    def loss(scale: float) -> float:
        prior = PRIOR * math.log(scale * sum(weights)) ** 2
        found = F.cross_entropy(torch.from_numpy(scale * fused), torch.from_numpy(clips.labels))
        return float(found) + prior

    assert loss(1.0) < min(loss(0.95), loss(1.05))


def test_neither_fixed_weight_is_zero() -> None:
    clips = scores()
    right = np.eye(2)[clips.labels]
    clips = dataclasses.replace(clips, flow=right, rgb=200 * (1 - right))  # flow alone is best
    weights = best_weights(clips)
    assert min(weights) / max(weights) == pytest.approx(LEAST_WEIGHT)
