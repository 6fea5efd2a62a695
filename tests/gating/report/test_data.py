"""Figures of the page, from comparisons whose sums are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.report.data import class_gains, confusion_data, flow_fractions, paired_tests
from tests.make.comparisons import evidence_of, predicting


def test_folds_are_tested_together_and_seeds_apart() -> None:
    trials = [
        predicting([True, True], [False, False], part=part, seed=seed)
        for part in ("0", "1")
        for seed in (0, 1)
    ]
    tests = paired_tests(trials)
    assert [(one.only_first, one.only_second) for one in tests] == [(4, 0), (4, 0)]


def test_gain_of_a_class_is_over_all_trials() -> None:
    gate, fixed = [True, True, False, False], [False, True, True, False]
    gain, clips = class_gains(evidence_of(*(predicting(gate, fixed, seed=seed) for seed in (0, 1))))
    # Labels alternate: of clips 0 and 2 one is saved and one is lost, of 1 and 3 none.
    assert gain.tolist() == [0.0, 0.0]
    assert clips.tolist() == [4, 4]
    gain, _ = class_gains(evidence_of(predicting([True, True], [False, True])))
    assert gain.tolist() == [1.0, 0.0]


def test_confusion_goes_to_the_script_as_row_column_count() -> None:
    data = confusion_data(evidence_of(predicting([True, False, True], [True, True, True])))
    assert data["matrices"]["gating"] == [0, 0, 2, 1, 0, 1]
    assert data["matrices"]["search"] == [0, 0, 2, 1, 1, 1]


def test_fraction_of_flow_knows_zero_gates() -> None:
    fractions = flow_fractions(np.array([[1.5, 0.5], [0.0, 2.0], [0.0, 0.0]]))
    assert fractions[:2].tolist() == [0.75, 0.0]
    assert math.isnan(fractions[2])
