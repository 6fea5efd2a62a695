"""Sections of the page, from comparisons whose figures are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.report.clips import Gallery
from gating.report.data import Evidence
from gating.report.page import provenance
from gating.report.sections import accuracy, class_gain, confusion, gates, headline, trials
from tests.make.comparisons import CONTEXT, evidence_of, predicting
from tests.make.scores import made_comparison


def known(evidence: Evidence) -> Evidence:
    return dataclasses.replace(evidence, context=CONTEXT)


def without_gate() -> Evidence:
    return known(evidence_of(made_comparison([f"c{k}" for k in range(6)], ("up", "down"), gate=False)))


def test_headline_counts_each_clip_once_and_gives_the_verdict() -> None:
    trials = [predicting([True] * 20, [False] * 20, seed=seed) for seed in (0, 1)]
    found = headline(known(evidence_of(*trials)))
    assert found.sizes == "20 test clips, 2 classes, 1 split, 2 seeds, compared 2026-01-02 03:04 UTC"
    assert "better than the best fixed weights: +100.0 points" in found.verdict
    assert [tile[0] for tile in found.tiles][:3] == ["gating, top-1", "best fixed weights", "gain, points"]


def test_without_a_gate_there_is_neither_verdict_nor_weights() -> None:
    evidence = without_gate()
    assert (headline(evidence).verdict, headline(evidence).tiles) == ("", ())
    assert gates(evidence) is None


def test_accuracy_marks_the_gate_and_the_bound_which_comes_last() -> None:
    found = accuracy(evidence_of(predicting([True, True, False, True], [True, False, False, True])))
    marks = {row.name: row.mark for row in found.rows if row.mark}
    assert marks == {"gating": "chosen", "oracle": "bound"}
    assert found.rows[-1].name == "oracle"
    gain = {row.name: row.gain for row in found.rows}
    assert (gain["search"], gain["gating"]) == ("+25.0", "")


def test_classes_stand_by_gain_and_are_counted() -> None:
    # Labels alternate: the gate gains both clips of "down" and loses one of "up".
    found = class_gain(evidence_of(predicting([False, True, True, True], [True, False, True, False])))
    assert [(row.name, row.value[0]) for row in found.rows.first] == [("down", "+"), ("up", "\N{MINUS SIGN}")]
    assert (found.better, found.worse, found.alike) == (1, 1, 0)


def test_weights_that_are_all_zero_have_no_fractions() -> None:
    one = predicting([True, True], [True, True])
    dead = dataclasses.replace(one, scores=dataclasses.replace(one.scores, gates=np.zeros((2, 2))))
    found = gates(evidence_of(dead))
    assert found is not None
    assert found.fractions.every is None
    assert ("fixed weights served instead", "2 of 2 predictions") in found.facts


def test_mistakes_name_the_label_and_the_predicted_class() -> None:
    found = confusion(evidence_of(predicting([True, False], [True, False])))
    assert [matrix.name for matrix in found.matrices] == ["gating", "search", "rgb", "flow"]
    label, taken, counts = found.mistakes[0]
    assert (label, taken) == ("down", "up")
    assert counts[found.names.index("gating")] == counts[found.names.index("search")] == 1


def test_trials_stand_by_split_part_and_seed() -> None:
    made = [predicting([True], [True], part=part, seed=seed) for part in ("1", "0") for seed in (1, 0)]
    rows = trials(evidence_of(*made)).rows
    assert [(row.part, row.numbers[0]) for row in rows] == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]


def test_provenance_names_the_store_of_the_images_or_none() -> None:
    found = dict(provenance(CONTEXT, Gallery(store=None, reason="absent")))
    assert found["Configuration"] == [("preset", "tiny")]
    assert found["Data"] == []
    assert ("images from", "no store") in found["This page"]
