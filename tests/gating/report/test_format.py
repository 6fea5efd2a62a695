"""Text of numbers, verdicts and preferences."""

from __future__ import annotations

import dataclasses
import math

import pytest

pytest.importorskip("torch")

from gating.evaluation.comparison import Gain
from gating.report.format import (
    chance,
    counted,
    percent,
    points,
    preference,
    span_of_chances,
    verdict,
)
from tests.make.comparisons import predicting

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((0.01, 0.03), "is better than"),
        ((-0.03, -0.01), "is worse than"),
        ((-0.01, 0.02), "no better and no worse"),
    ],
)
def test_verdict_follows_the_interval(interval: tuple[float, float], word: str) -> None:
    gain = Gain(baseline="search", mean=sum(interval) / 2, interval=interval, per_seed=(0.0,))
    assert word in verdict(gain)


def test_preference_names_what_predict_uses() -> None:
    likes, not_so = (
        dataclasses.replace(predicting([True], [True]), validation={"search": 0.5, "gating": gating})
        for gating in (0.6, 0.5)
    )
    assert "predict uses it" in preference([likes, likes])
    assert "predict uses the fixed weights" in preference([not_so])
    assert "1 of 2 trials" in preference([likes, not_so])


def test_numbers_are_written_with_their_sign_and_without_a_false_zero() -> None:
    assert [points(one) for one in (0.012, -0.012, 0.0, -0.0001, math.nan)] == [
        "+1.2",
        f"{MINUS}1.2",
        "0.0",
        "0.0",
        "\N{EN DASH}",
    ]
    assert (percent(0.945), percent(0.945, 0), percent(math.nan)) == ("94.5", "94", "\N{EN DASH}")
    assert (chance(0.5), chance(0.0123), chance(1e-9)) == ("0.5", "0.012", "< 0.0001")
    assert span_of_chances([0.5, 0.012, 0.3]) == "0.012 to 0.5"
    assert span_of_chances([0.5, 0.501]) == "0.5"
    assert (counted(1, "class", "classes"), counted(2, "class", "classes")) == ("1 class", "2 classes")
