"""Heads, held-out scores and gate of two streams whose features or scores are there.

A trial of frozen backbones and `gating.fuse` have this in common; they differ in where the arrays come from
and in what they keep.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gating.config import MODALITIES, GateConfig, Modality, Schedule
from gating.evaluation.scores import ClipScores, joined_scores
from gating.frozen.clips import TwoStreams
from gating.frozen.gate import SHARES, GateFit, chosen_share, fit_gate, gated, gated_by_share, shrunk
from gating.frozen.heads import Head, fit_head
from gating.models.gate import GatingConvNet


class ClipParts(Protocol):
    """The parts of a trial, as `gating.data.partition.TrialData` has them."""

    @property
    def split(self) -> str:
        """Name of the split."""

    @property
    def part(self) -> str:
        """The tested part: "test" or a fold."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of scores."""

    @property
    def labels(self) -> dict[str, int]:
        """Index into `classes` by id."""

    @property
    def groups(self) -> dict[str, str]:
        """By id."""

    @property
    def train(self) -> tuple[str, ...]:
        """Ids that heads and gate learn from."""

    @property
    def test(self) -> tuple[str, ...]:
        """Ids that are tested."""

    @property
    def folds(self) -> tuple[tuple[str, ...], ...]:
        """Parts of `train`, each kept from one pair of heads and from one gate."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FitChoices:
    """The choices that decide the fits.

    Attributes
    ----------
    seed : int
        Of the folds of each head's strength, and of the gate.
    gate : GateConfig or None
        None: no gate is fitted.
    schedule : Schedule
        Of the gate.
    segments : int
        Of a clip, that its features are pooled over; a record.
    balanced : bool
        Heads and gate weigh each clip by its class, inversely proportional to the class's clips.
    """

    seed: int
    gate: GateConfig | None
    schedule: Schedule
    segments: int = 1
    balanced: bool = False


class Fits:
    """The fits of one trial.

    Parameters
    ----------
    data
        The clips' parts.
    choices
        Of the fits.
    device
        Of the gate.
    on_head
        Receives each head, its stream, and the number of the fold that it was fitted without, or None.
    on_gate
        Receives the gate, and the share of its own weights that it keeps.
    """

    def __init__(
        self,
        data: ClipParts,
        choices: FitChoices,
        *,
        device: torch.device,
        on_head: Callable[[Head, Modality, int | None], None],
        on_gate: Callable[[GatingConvNet, float], None],
    ) -> None:
        self.data, self.choices, self.device = data, choices, device
        self.on_head, self.on_gate = on_head, on_gate

    def scores(self, clips: TwoStreams) -> tuple[ClipScores, ClipScores]:
        """Fit all, and return the scores of the test clips, and held-out ones of the training clips.

        Where no clip is tested, the held-out ones stand for both.
        Neither streams nor gate have learned from a clip whose scores and weights they give.
        """
        data = self.data
        heads = self._heads(clips, data.train)
        test = self._scored(heads, clips.of_clips(data.test)) if data.test else None
        held_out = self._held_out(clips)
        if self.choices.gate is None:
            return held_out if test is None else test, held_out
        fit = GateFit(clips=clips.of_clips(held_out.ids), scores=held_out)
        share, held_out = self._cross_fitted(fit, self.choices.gate)
        gate = shrunk(self._fitted_gate(fit, self.choices.gate), share)
        self.on_gate(gate, share)
        if test is None:
            return held_out, held_out
        return gated(gate, clips.of_clips(data.test), test), held_out

    def _heads(
        self, clips: TwoStreams, ids: Sequence[str], *, without: int | None = None
    ) -> dict[Modality, Head]:
        """Return a head of each stream without scores of its own, fitted on some clips."""
        needing = [one for one in clips.modalities if clips.of(one).scores is None]
        return {one: self._head(one, clips, ids, without=without) for one in needing}

    def _head(
        self, modality: Modality, clips: TwoStreams, ids: Sequence[str], *, without: int | None
    ) -> Head:
        features = clips.of(modality).features
        assert features is not None
        row = {video_id: k for k, video_id in enumerate(clips.ids)}
        head = fit_head(
            torch.from_numpy(features[[row[k] for k in ids]]),
            torch.tensor([self.data.labels[k] for k in ids]),
            [self.data.groups[k] for k in ids],
            classes=len(self.data.classes),
            seed=self.choices.seed,
            balanced=self.choices.balanced,
        )
        self.on_head(head, modality, without)
        return head

    def _held_out(self, clips: TwoStreams) -> ClipScores:
        """Return the scores of the training clips by heads that did not learn from them."""
        parts = []
        for number, ids in enumerate(self.data.folds):
            left_out = set(ids)
            others = tuple(k for k in self.data.train if k not in left_out)
            heads = self._heads(clips, others, without=number)
            parts.append(self._scored(heads, clips.of_clips(ids)))
        return joined_scores(parts)

    def _scored(self, heads: Mapping[Modality, Head], clips: TwoStreams) -> ClipScores:
        columns = {one: _as_double(clips.of(one).features) for one in clips.modalities}
        scores = {}
        for one, features in columns.items():
            given = clips.of(one).scores
            if given is None:
                assert features is not None
                given = (torch.from_numpy(features) @ heads[one].weight.T + heads[one].bias).numpy()
            scores[one] = given
        all_there = all(features is not None for features in columns.values())
        nothing = np.zeros((len(clips.ids), len(self.data.classes)))
        return ClipScores(
            ids=clips.ids,
            groups=tuple(self.data.groups[k] for k in clips.ids),
            classes=self.data.classes,
            labels=np.array([self.data.labels[k] for k in clips.ids], np.int64),
            flow=scores.get("flow", nothing),
            rgb=scores.get("rgb", nothing),
            flow_features=columns.get("flow") if all_there else None,
            rgb_features=columns.get("rgb") if all_there else None,
            segments=self.choices.segments,
            modalities=tuple(one for one in MODALITIES if one in columns),
        )

    def _cross_fitted(self, fit: GateFit, config: GateConfig) -> tuple[float, ClipScores]:
        """Return the share that gates keep of their weights, and held-out scores by such gates.

        No gate has learned from a clip that it scores. Only weights by ReLU can be drawn towards fixed ones.
        """
        row = {video_id: k for k, video_id in enumerate(fit.scores.ids)}
        parts: dict[float, list[ClipScores]] = defaultdict(list)
        shares = SHARES if config.activation == "relu" else (1.0,)
        for ids in self.data.folds:
            held = np.array([row[k] for k in ids])
            others = np.setdiff1d(np.arange(len(row)), held)
            gate, apart = self._fitted_gate(fit.part(others), config), fit.part(held)
            for share, scores in gated_by_share(gate, apart.clips, apart.scores, shares=shares).items():
                parts[share].append(scores)
        held_out = {share: joined_scores(each) for share, each in parts.items()}
        share = chosen_share(held_out)
        return share, held_out[share]

    def _fitted_gate(self, fit: GateFit, config: GateConfig) -> GatingConvNet:
        choices = self.choices
        return fit_gate(
            fit,
            config,
            choices.schedule,
            seed=choices.seed,
            device=self.device,
            balanced=choices.balanced,
        )


def _as_double(features: NDArray[np.float32] | None) -> NDArray[np.float64] | None:
    return None if features is None else features.astype(np.float64)
