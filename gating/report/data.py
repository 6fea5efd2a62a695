"""The figures of the page: every trial's comparison, their sums, and figures by class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING, Modality
from gating.errors import ScoresError
from gating.evaluation.comparison import FusionRow, Gain, TrialComparison, fusion_rows, gains, pooled
from gating.evaluation.results import read_comparisons
from gating.models.gate import FLOW
from gating.run_folder import RunContext, read_context
from gating.statistics import McNemar, confusion_matrix, correct_predictions, mcnemar

SHOWN = ("rgb", "flow", BASELINE, GATING)
"""Fusions that are shown class by class."""

_MISTAKES = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The trials of a run and their sums.

    Attributes
    ----------
    context : RunContext
    comparisons : sequence of TrialComparison
        One a trial, all of the same classes.
    rows : dict of str to FusionRow
        The table of fusions.
    gains : list of Gain
        The gate's, over each other fusion; empty without a gate.
    """

    context: RunContext
    comparisons: Sequence[TrialComparison]
    rows: dict[str, FusionRow]
    gains: list[Gain]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.comparisons[0].scores.classes

    @property
    def lone_stream(self) -> Modality | None:
        """The stream that was trained alone, None of both."""
        return self.comparisons[0].scores.lone_stream

    @property
    def has_gate(self) -> bool:
        """True if a gate was trained."""
        return GATING in self.rows

    @property
    def shown(self) -> list[str]:
        """Those of `SHOWN` that the run has."""
        return [name for name in SHOWN if name in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the test clips of all trials, int64 (n,)."""
        return np.concatenate([one.scores.labels for one in self.comparisons])

    def fused(self, name: str) -> NDArray[np.float64]:
        """Return a fusion's scores of the test clips of all trials, float64 (n, C)."""
        return np.concatenate([one.fused[name] for one in self.comparisons])

    def confusion(self, name: str) -> NDArray[np.int64]:
        """Return counts over all trials, int64 (C, C): rows are labels, columns predictions."""
        return confusion_matrix(self.fused(name), self.labels)

    def over_baseline(self) -> Gain | None:
        """Return the gate's gain over the best fixed weights."""
        return next((one for one in self.gains if one.baseline == BASELINE), None)


def read_evidence(out: Path) -> Evidence:
    """Return the evidence of a run's folder.

    Raises
    ------
    ScoresError
        There is no finished trial, a file is damaged, or trials have other classes or fusions.
    """
    comparisons = read_comparisons(out)
    first = comparisons[0]
    for one in comparisons:
        if one.scores.classes != first.scores.classes or one.fused.keys() != first.fused.keys():
            raise ScoresError(
                f"{out} has trials of several configurations: split {one.split!r}, seed {one.seed} has other "
                f"classes or fusions than split {first.split!r}, seed {first.seed}; "
                "train each configuration into its own folder"
            )
    return Evidence(
        context=read_context(out),
        comparisons=comparisons,
        rows=fusion_rows(comparisons),
        gains=gains(comparisons),
    )


def paired_tests(comparisons: Sequence[TrialComparison]) -> list[McNemar]:
    """Return McNemar's test of the gate (first) against the best fixed weights, one a split and seed.

    Seeds are not stacked: their predictions for one clip depend on each other.
    """
    return [
        mcnemar(*(correct_predictions(pool.fused[name], pool.labels) for name in (GATING, BASELINE)))
        for seeds in pooled(comparisons).values()
        for pool in seeds
    ]


def class_gains(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each class's gain in accuracy, float64 (C,), and its predictions counted, int64 (C,)."""
    gate, fixed = evidence.confusion(GATING), evidence.confusion(BASELINE)
    clips = gate.sum(axis=1)
    return (gate.diagonal() - fixed.diagonal()) / np.maximum(1, clips), clips


def flow_fractions(gates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return g_flow / (g_flow + g_rgb) of gates (N, 2), float64 (N,); NaN where both are zero."""
    total = gates.sum(axis=1)
    fractions: NDArray[np.float64] = np.divide(
        gates[:, FLOW], total, out=np.full(len(gates), math.nan), where=total > 0
    )
    return fractions


class ConfusionData(TypedDict):
    """Data of the page's script: each matrix is row, column, count, row, ... of its cells above 0."""

    classes: tuple[str, ...]
    matrices: dict[str, list[int]]


def confusion_data(evidence: Evidence) -> ConfusionData:
    """Return the confusion matrices for the page's script."""
    matrices: dict[str, list[int]] = {}
    for name in evidence.shown:
        counts = evidence.confusion(name)
        rows, columns = np.nonzero(counts)
        matrices[name] = np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()
    return {"classes": evidence.classes, "matrices": matrices}


def commonest_mistakes(evidence: Evidence) -> list[tuple[int, int]]:
    """Return up to ten (label, prediction), those first that the gate and the fixed weights confuse most.

    In a run of one stream, those that it confuses most.
    """
    fused = [name for name in (GATING, BASELINE) if name in evidence.shown]
    total = sum(evidence.confusion(name) for name in fused or evidence.shown)
    total = np.where(np.eye(len(evidence.classes), dtype=bool), 0, total)
    order = np.argsort(total, axis=None, kind="stable")[::-1][:_MISTAKES]
    return [(int(k) // len(total), int(k) % len(total)) for k in order if total.flat[k] > 0]
