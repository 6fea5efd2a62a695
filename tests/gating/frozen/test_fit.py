"""Heads, held-out scores and gate of a trial: who learns from whom."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch

from gating.config import GateConfig, Modality, Schedule
from gating.frozen.clips import StreamClips, TwoStreams
from gating.frozen.fit import FitChoices, Fits
from gating.frozen.heads import Head
from gating.models.gate import GatingConvNet

TRAIN, TEST, FEATURES = 40, 10, 60
IDS = tuple(f"c{k}" for k in range(TRAIN + TEST))
LABELS = {video_id: k % 2 for k, video_id in enumerate(IDS)}


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a trial: four folds of ten clips to train on, ten to test."""

    test: tuple[str, ...] = IDS[TRAIN:]
    train: tuple[str, ...] = IDS[:TRAIN]
    split: str = "s"
    part: str = "test"
    classes: tuple[str, ...] = ("up", "down")
    labels: dict[str, int] = dataclasses.field(default_factory=lambda: LABELS)
    groups: dict[str, str] = dataclasses.field(default_factory=lambda: {one: one for one in IDS})
    folds: tuple[tuple[str, ...], ...] = tuple(IDS[k : k + 10] for k in range(0, TRAIN, 10))


class Noted:
    """The heads and gates of a fit."""

    def __init__(self) -> None:
        self.heads: list[tuple[Modality, int | None]] = []
        self.shares: list[float] = []

    def head(self, head: Head, modality: Modality, without: int | None) -> None:
        assert head.weight.shape == (2, FEATURES)
        self.heads.append((modality, without))

    def gate(self, gate: GatingConvNet, share: float) -> None:
        self.shares.append(share)


def fits(parts: Parts, noted: Noted, *, gate: GateConfig | None = None) -> Fits:
    choices = FitChoices(seed=0, gate=gate, schedule=Schedule(epochs=1, batch=8, lr=1e-3))
    return Fits(parts, choices, device=torch.device("cpu"), on_head=noted.head, on_gate=noted.gate)


def clips(features: NDArray[np.float32], *, rgb_scores: NDArray[np.float64] | None = None) -> TwoStreams:
    maps = np.zeros((len(IDS), 8, 2, 2), np.float32)
    own = StreamClips(features=features, maps=maps)
    rgb = own if rgb_scores is None else StreamClips(maps=maps, scores=rgb_scores)
    return TwoStreams(ids=IDS, flow=own, rgb=rgb)


def of_labels() -> NDArray[np.float32]:
    """Features of which the first third says the label."""
    made = np.random.default_rng(0).normal(0, 0.1, (len(IDS), FEATURES)).astype(np.float32)
    made[:, : FEATURES // 3] += np.array([[4 * LABELS[one] - 2] for one in IDS], np.float32)
    return made


def accuracy(scores: NDArray[np.float64], ids: tuple[str, ...]) -> float:
    return float(np.mean(scores.argmax(axis=1) == [LABELS[one] for one in ids]))


def test_what_features_say_is_learned_and_tested() -> None:
    noted = Noted()
    test, held_out = fits(Parts(), noted).scores(clips(of_labels()))
    assert test.ids == IDS[TRAIN:]
    assert held_out.ids == IDS[:TRAIN]
    for found in (test, held_out):
        assert accuracy(found.flow, found.ids) == accuracy(found.rgb, found.ids) == 1.0
    folds = [(one, k) for k in range(4) for one in ("flow", "rgb")]
    assert noted.heads == [("flow", None), ("rgb", None), *folds]
    assert noted.shares == []


def test_no_head_has_seen_the_clip_whose_held_out_score_it_gives() -> None:
    """Features that say nothing but which clip it is: a head that had seen it would know its label."""
    noise = np.random.default_rng(1).normal(0, 1, (len(IDS), FEATURES)).astype(np.float32)
    seen: list[tuple[Head, int | None]] = []
    made = fits(Parts(), Noted())
    made.on_head = lambda head, modality, without: seen.append((head, without))
    _, held_out = made.scores(clips(noise))
    whole = next(head for head, without in seen if without is None)
    known = (torch.from_numpy(noise[:TRAIN].astype(np.float64)) @ whole.weight.T + whole.bias).numpy()
    assert accuracy(known, IDS[:TRAIN]) > 0.8
    assert accuracy(held_out.flow, held_out.ids) < 0.7


def test_a_stream_with_scores_of_its_own_gets_no_head() -> None:
    noted = Noted()
    given = np.random.default_rng(2).normal(size=(len(IDS), 2))
    test, held_out = fits(Parts(), noted).scores(clips(of_labels(), rgb_scores=given))
    assert {modality for modality, _ in noted.heads} == {"flow"}
    np.testing.assert_array_equal(test.rgb, given[TRAIN:])
    np.testing.assert_array_equal(held_out.rgb, given[:TRAIN])


def test_where_nothing_is_tested_held_out_scores_stand_for_it() -> None:
    test, held_out = fits(Parts(test=()), Noted()).scores(clips(of_labels()))
    assert test is held_out


def test_a_gate_weighs_the_tested_and_the_held_out_clips() -> None:
    noted = Noted()
    config = GateConfig(num_classes=2, tap_channels=8, width=0.125)
    test, held_out = fits(Parts(), noted, gate=config).scores(clips(of_labels()))
    assert len(noted.shares) == 1
    for found in (test, held_out):
        assert found.gates is not None
        assert found.gates.shape == (len(found.ids), 2)
        assert found.gated is not None
        assert accuracy(found.gated, found.ids) == 1.0
