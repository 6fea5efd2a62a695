"""Comparisons whose gate and best fixed weights are right as given."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gating.evaluation.comparison import TrialComparison, fusion_rows, gains
from gating.report.data import Evidence
from gating.run_folder import RunContext
from tests.make.scores import made_comparison

CLASSES = ("up", "down")
CONTEXT = RunContext(
    out=Path("runs/one"),
    compared=datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
    config={"preset": "tiny"},
    data={},
    versions={},
)


def predicting(
    gate: Sequence[bool], fixed: Sequence[bool], *, seed: int = 0, part: str = "test", sure: float = 5.0
) -> TrialComparison:
    """A comparison whose gate and best fixed weights are right as given."""
    one = made_comparison([f"{part}{k}" for k in range(len(gate))], CLASSES, part=part)
    labels = one.scores.labels

    def scores(right: Sequence[bool]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return sure * np.eye(2)[np.where(right, labels, 1 - labels)]

    return dataclasses.replace(
        one, seed=seed, fused={**one.fused, "gating": scores(gate), "search": scores(fixed)}
    )


def evidence_of(*comparisons: TrialComparison) -> Evidence:
    return Evidence(
        context=CONTEXT,
        comparisons=comparisons,
        rows=fusion_rows(comparisons),
        gains=gains(comparisons),
    )
