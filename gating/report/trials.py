"""Each trial in a line, and how the run was made."""

from __future__ import annotations

import math

import flowkit
from gating.config import BASELINE, GATING
from gating.evaluation.comparison import Comparison
from gating.report.evidence import Evidence
from gating.report.markup import Html, cells, facts, note, section, table, tag
from gating.report.wording import chance, percent
from gating.run_folder import RunContext, flattened
from gating.statistics import top1

_HEAD = [
    "split",
    "part",
    "seed",
    "clips",
    "search, %",
    "gating, %",
    "validation: search, %",
    "validation: gating, %",
    "preferred",
    "flow's share of search",
    "McNemar's p",
    "fallbacks",
]
_FEW = 12


def trials_section(evidence: Evidence) -> Html:
    """Return a line for each trial."""
    judgements = sorted(evidence.judgements, key=lambda one: (one.split, one.part, one.seed))
    lines = table(_HEAD, map(_line, judgements), class_="figures trials")
    long = len(judgements) > _FEW
    return section(
        "Trials",
        note(
            "One trial is one split, or one fold of it, and one seed; top-1 on test and on validation clips."
        ),
        tag("div", lines, class_="tall" if long else None),
    )


def _line(one: Comparison) -> Html:
    accuracy = {name: top1(scores, one.scores.labels) for name, scores in one.fused.items()}
    return cells(
        tag("span", one.split, class_="said"),
        tag("span", one.part, class_="said"),
        one.seed,
        len(one.scores),
        percent(accuracy[BASELINE]),
        percent(accuracy.get(GATING, math.nan)),
        percent(one.validation.get(BASELINE, math.nan)),
        percent(one.validation.get(GATING, math.nan)),
        "gate" if one.prefers_gate else "fixed weights",
        f"{one.search_share:.2f}",
        None if one.test is None else chance(one.test.p_value),
        one.fallbacks,
    )


def facts_section(context: RunContext, page_facts: list[tuple[str, str]]) -> Html:
    """Return configuration, data fingerprint and versions."""
    columns = [
        ("Configuration", list(flattened(context.config)) if context.config else []),
        ("Data", list(flattened(context.data)) if context.data else []),
        ("Versions", [*flattened(context.versions)] if context.versions else []),
    ]
    page = [("run", str(context.out)), *page_facts, ("flowkit of this page", flowkit.__version__)]
    shown = [
        tag("div", tag("h3", title), facts(pairs) if pairs else note("results.json does not tell."))
        for title, pairs in columns
    ]
    return section(
        "How it was made", tag("div", shown, tag("div", tag("h3", "This page"), facts(page)), class_="halves")
    )
