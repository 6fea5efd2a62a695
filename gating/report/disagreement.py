"""Clips whose streams disagree: what any fixed weights reach, and what the gate decided of each clip.

Where exactly one stream is right, flow's fraction of the two weights has a bound: on one side of it the
weighted sum is right, on the other it is wrong. A gate is right there if its own fraction lies on that side.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING, ORACLE
from gating.evaluation.comparison import TrialComparison
from gating.fusions import softmax
from gating.fusions.fixed import FRACTIONS, weighted_sum
from gating.report.clips import ClipCard, Gallery, clip_card
from gating.report.curve import Curve, Mark, draw_curve
from gating.report.data import Evidence, flow_fractions
from gating.report.format import NOTHING, number, percent
from gating.statistics import correct_predictions

Right = NDArray[np.bool_]
_STREAMS = ("flow", "rgb")


def right_by_fraction(one: TrialComparison) -> Right:
    """Return a mask (101, N) of right predictions by the fractions of `gating.fusions.fixed.FRACTIONS`."""
    data = one.scores.fusion_data()
    sums = [weighted_sum(data, (fraction, 1 - fraction), "scores") for fraction in FRACTIONS]
    return np.stack([correct_predictions(each, one.scores.labels) for each in sums])


def weight_curve(evidence: Evidence) -> Curve:
    """Return top-1 over flow's fraction of fixed weights, a mean over seeds and splits, and the gate's point.

    The gate's point lies at its clips' mean fraction.
    """
    of_split: dict[str, list[Right]] = defaultdict(list)
    for one in evidence.comparisons:
        of_split[one.split].append(right_by_fraction(one))
    means = [np.concatenate(masks, axis=1).mean(axis=1) for masks in of_split.values()]
    heights = np.mean(means, axis=0)
    rows = evidence.rows
    search = float(np.mean([one.search_fraction for one in evidence.comparisons]))
    marks = [Mark(name="searched weights", kind="search", x=search, y=rows[BASELINE].top1)]
    gates = [one.scores.gates for one in evidence.comparisons if one.scores.gates is not None]
    fractions = flow_fractions(np.concatenate(gates)) if gates else np.empty(0)
    if evidence.has_gate and np.isfinite(fractions).any():
        at = float(np.nanmean(fractions))
        marks.append(Mark(name="gate", kind="gate", x=at, y=rows[GATING].top1))
    bound = rows[ORACLE].top1 if ORACLE in rows else None
    return draw_curve(FRACTIONS, heights, marks=marks, bound=bound)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AgreementRow:
    """Predictions by which streams are right; numbers are texts, per cent but for the count and fraction."""

    right: str
    count: int
    fixed: str
    gate: str
    fraction: str


def agreement(evidence: Evidence) -> list[AgreementRow]:
    """Return the table of clips by the streams that are right, over all trials."""
    labels = evidence.labels
    flow, rgb = (correct_predictions(evidence.fused(name), labels) for name in _STREAMS)
    fixed = correct_predictions(evidence.fused(BASELINE), labels)
    gate = correct_predictions(evidence.fused(GATING), labels) if evidence.has_gate else None
    fractions = _gate_fractions(evidence)
    rows = []
    for words, mask in (
        ("both", flow & rgb),
        ("flow alone", flow & ~rgb),
        ("rgb alone", rgb & ~flow),
        ("neither", ~flow & ~rgb),
    ):
        known = fractions[mask & np.isfinite(fractions)]
        rows.append(
            AgreementRow(
                right=words,
                count=int(mask.sum()),
                fixed=_share(fixed, mask),
                gate=NOTHING if gate is None else _share(gate, mask),
                fraction=number(float(known.mean())) if len(known) else NOTHING,
            )
        )
    return rows


def _share(right: Right, mask: Right) -> str:
    return percent(float(right[mask].mean())) if mask.any() else NOTHING


def _gate_fractions(evidence: Evidence) -> NDArray[np.float64]:
    """Return flow's fraction by the gate of the test clips of all trials; NaN where there is none."""
    each = [
        np.full(len(one.scores), np.nan) if one.scores.gates is None else flow_fractions(one.scores.gates)
        for one in evidence.comparisons
    ]
    return np.concatenate(each)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The gate's decision on one clip that exactly one stream has right.

    Attributes
    ----------
    comparison, row
        The trial, and the clip's index in it.
    right_stream : str
        "flow" or "rgb".
    is_right : bool
        By the gate.
    bound : float
        Flow's fraction from which on (flow is right) or up to which (rgb is) the sum is right, [0, 1].
    certainty : float
        The wrong stream's probability of its own prediction: what the gate has to outweigh.
    """

    comparison: TrialComparison
    row: int
    right_stream: str
    is_right: bool
    bound: float
    certainty: float

    @property
    def video_id(self) -> str:
        """The clip's."""
        return self.comparison.scores.ids[self.row]

    @property
    def why(self) -> str:
        """The decision in words."""
        gates = self.comparison.scores.gates
        own = float("nan") if gates is None else float(flow_fractions(gates[self.row][None])[0])
        side = "from" if self.right_stream == "flow" else "up to"
        verdict = "right" if self.is_right else "wrong"
        return (
            f"The sum is right {side} a fraction of flow of {self.bound:.2f}; the gate's is {number(own)} "
            f"({verdict}), the fixed weights' {self.comparison.search_fraction:.2f}."
        )


def decisions(comparisons: Sequence[TrialComparison]) -> list[Decision]:
    """Return the decisions on clips that one stream alone has right, the wrong stream's surest first.

    Of a clip in several seeds the first trial's is taken. Every comparison must have a gate.
    """
    found: dict[tuple[str, str], Decision] = {}
    for one in comparisons:
        labels = one.scores.labels
        by_fraction = right_by_fraction(one)
        flow, rgb = (correct_predictions(one.fused[name], labels) for name in _STREAMS)
        gate = correct_predictions(one.fused[GATING], labels)
        for row in np.flatnonzero(flow != rgb).tolist():
            fractions = FRACTIONS[by_fraction[:, row]]
            wrong = one.scores.rgb if flow[row] else one.scores.flow
            decision = Decision(
                comparison=one,
                row=row,
                right_stream="flow" if flow[row] else "rgb",
                is_right=bool(gate[row]),
                bound=float(fractions.min() if flow[row] else fractions.max()),
                certainty=float(softmax(wrong[row][None]).max()),
            )
            found.setdefault((one.split, decision.video_id), decision)
    return sorted(found.values(), key=lambda one: -one.certainty)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """The section: the curve, the table, and clips that the gate has right and wrong."""

    curve: Curve
    rows: list[AgreementRow]
    right: list[ClipCard]
    wrong: list[ClipCard]


def disagreement(
    evidence: Evidence, gallery: Gallery, count: int, *, shown: Collection[str] = ()
) -> Disagreement:
    """Return the section, with up to `count` clips, half of each kind, none of those `shown` elsewhere."""
    right: list[ClipCard] = []
    wrong: list[ClipCard] = []
    for one in decisions(evidence.comparisons) if evidence.has_gate and count else ():
        cards, most = (right, count - count // 2) if one.is_right else (wrong, count // 2)
        if len(cards) < most and one.video_id not in shown:
            cards.append(clip_card(one.comparison, one.row, gallery, why=one.why))
    return Disagreement(curve=weight_curve(evidence), rows=agreement(evidence), right=right, wrong=wrong)
