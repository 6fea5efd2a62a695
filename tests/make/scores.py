"""Made-up runs for the tests of the trainer's results: random scores, a gate that knows a little."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gating.evaluation.comparison import SplitKind, TrialComparison, compare_fusions
from gating.evaluation.results import fusion_results, write_comparison
from gating.evaluation.scores import ClipScores
from gating.run_folder import scores_path

CHEAP = ("rgb", "flow", "average", "weighted", "search", "oracle")
"""Fusions that need no fitting to speak of."""


def made_scores(
    ids: Sequence[str],
    classes: Sequence[str],
    *,
    seed: int = 0,
    features: bool = True,
    gate: bool = True,
    strength: float = 3.0,
) -> ClipScores:
    """Scores where one stream at a time knows the label, and gates that often know which one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(ids)) % len(classes)
    by_flow = rng.random(len(ids)) < 0.5
    streams = []
    for knows in (by_flow, ~by_flow):
        scores = rng.normal(0, 1, (len(ids), len(classes)))
        wrong = rng.integers(0, len(classes), len(ids))
        scores[np.arange(len(ids)), np.where(knows, labels, wrong)] += strength
        streams.append(scores)
    flow, rgb = streams
    guess = np.where(rng.random(len(ids)) < 0.8, by_flow, ~by_flow).astype(np.float64)
    gates = np.maximum(0, 1.5 * np.stack([guess, 1 - guess], axis=1) + rng.normal(0.4, 0.5, (len(ids), 2)))
    fixed = np.where((gates <= 0).all(axis=1, keepdims=True), np.array([1.5, 1.0]), gates)
    return ClipScores(
        ids=tuple(ids),
        groups=tuple(ids),
        classes=tuple(classes),
        labels=labels,
        flow=flow,
        rgb=rgb,
        flow_features=rng.normal(0, 1, (len(ids), 4)) if features else None,
        rgb_features=rng.normal(0, 1, (len(ids), 4)) if features else None,
        gates=gates if gate else None,
        gated=fixed[:, :1] * flow + fixed[:, 1:] * rgb if gate else None,
        segments=3,
    )


def made_comparison(
    ids: Sequence[str],
    classes: Sequence[str],
    *,
    split: str = "split1",
    part: str = "test",
    kind: SplitKind = "subset",
    seed: int = 0,
    names: Sequence[str] = CHEAP,
    gate: bool = True,
) -> TrialComparison:
    held = [f"held/{k}" for k in range(6 * len(classes))]
    return compare_fusions(
        made_scores(ids, classes, seed=3 * seed, gate=gate),
        fit_on=made_scores(held, classes, seed=3 * seed + 1, gate=gate),
        validation=made_scores(held, classes, seed=3 * seed + 2, gate=gate),
        split=split,
        part=part,
        kind=kind,
        seed=seed,
        names=names,
    )


def write_run(out: Path, comparisons: Sequence[TrialComparison], **context: object) -> Path:
    """Write a run's folder as the trainer leaves it."""
    for one in comparisons:
        trial = out / f"{one.split}-{one.part}" / f"seed{one.seed}"
        one.scores.save(scores_path(trial, "test"))
        write_comparison(trial, one)
    (out / "results.json").write_text(json.dumps({**fusion_results(comparisons).to_json(), **context}))
    return out
