from __future__ import annotations

import math
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.synth import APPEARANCES, MOTIONS, SynthConfig


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"clips": 0}, r"clips must be in \[1, "),
        ({"classes": 1}, r"classes must be in \[2, 8\], got 1"),
        ({"classes": 9}, r"classes must be in \[2, 8\], got 9"),
        ({"classes_from": "sum"}, r"Invalid classes_from \('sum'\)\. Supported values are both, product"),
        ({"reliability": "bad"}, "none, noise, conflict"),
        ({"cue": "all"}, "cross, own, none"),
        ({"codec": "vp9"}, "mpeg4, mjpeg, h264"),
        ({"width": 62}, r"width must be in \[64, "),
        ({"height": 65}, "even"),
        ({"frames": 1}, r"frames must be in \[2, "),
        ({"fps": 0.0}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"groups": 0}, "groups"),
        ({"seed": -1}, "seed"),
        ({"fractions": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"fractions": (1.5, -0.5, 0.0)}, "at least 0"),
        ({"fractions": (math.nan, 0.5, 0.5)}, "at least 0"),
        ({"fractions": (0.5, 0.5)}, "three"),
    ],
)
def test_value_outside_its_range_is_refused_with_what_is_expected(
    setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        SynthConfig(**setting)


def test_both_has_one_label_for_each_class() -> None:
    labels = SynthConfig(classes=8).labels
    assert [appearance for appearance, _ in labels] == list(APPEARANCES)
    assert [motion for _, motion in labels] == list(MOTIONS)


def test_product_has_a_label_for_each_pair() -> None:
    labels = SynthConfig(classes=3, classes_from="product").labels
    assert set(labels) == {(look, move) for look in APPEARANCES[:3] for move in MOTIONS[:3]}
    assert len(labels) == 9
