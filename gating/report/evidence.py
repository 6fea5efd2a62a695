"""All that the page speaks of: every trial's judgement and what they say together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING
from gating.errors import ScoresError
from gating.evaluation.comparison import Comparison, FusionRow, Gain, fusion_rows, gains
from gating.evaluation.results import read_comparisons
from gating.run_folder import RunContext, read_context
from gating.statistics import confusion_matrix

SHOWN = ("rgb", "flow", BASELINE, GATING)
"""Fusions that are looked at class by class."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The trials of a run and their sums.

    Attributes
    ----------
    context : RunContext
    judgements : sequence of Comparison
        One a trial, all of the same classes.
    rows : dict of str to FusionRow
        The table of fusions.
    gains : list of Gain
        The gate's, over each other fusion; empty without a gate.
    """

    context: RunContext
    judgements: Sequence[Comparison]
    rows: dict[str, FusionRow]
    gains: list[Gain]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.judgements[0].scores.classes

    @property
    def has_gate(self) -> bool:
        """Whether a gate was trained."""
        return GATING in self.rows

    @property
    def shown(self) -> list[str]:
        """Those of `SHOWN` that there are."""
        return [name for name in SHOWN if name in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the test clips of all trials, int64 (n,)."""
        return np.concatenate([one.scores.labels for one in self.judgements])

    def fused(self, name: str) -> NDArray[np.float64]:
        """Return a fusion's scores of the test clips of all trials, float64 (n, C)."""
        return np.concatenate([one.fused[name] for one in self.judgements])

    def confusion(self, name: str) -> NDArray[np.int64]:
        """Return counts over all trials, int64 (C, C): rows are labels, columns answers."""
        return confusion_matrix(self.fused(name), self.labels)

    def over_baseline(self) -> Gain | None:
        """Return the gate's gain over the best fixed weights."""
        return next((one for one in self.gains if one.rival == BASELINE), None)


def read_evidence(out: Path) -> Evidence:
    """Return the evidence of a run's folder.

    Raises
    ------
    ScoresError
        There is no finished trial, a file is damaged, or trials have other classes or fusions.
    """
    judgements = read_comparisons(out)
    first = judgements[0]
    for one in judgements:
        if one.scores.classes != first.scores.classes or one.fused.keys() != first.fused.keys():
            raise ScoresError(
                f"{out} has trials of several configurations: split {one.split!r}, seed {one.seed} has other "
                f"classes or fusions than split {first.split!r}, seed {first.seed}; "
                "train each configuration into its own folder"
            )
    return Evidence(
        context=read_context(out),
        judgements=judgements,
        rows=fusion_rows(judgements),
        gains=gains(judgements),
    )
