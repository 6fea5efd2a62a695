"""Settings of a set: their ranges and labels; and its clips: modes, content, ids, seeds."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.synth import APPEARANCES, MOTIONS, SynthConfig, plan_clips

CONFLICT = SynthConfig(clips=9, classes=3, reliability="conflict")


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


def test_clip_ids_carry_their_group_and_are_unique() -> None:
    clips = plan_clips(SynthConfig(clips=7, classes=2, groups=3))
    found = [re.search(r"g(\d+)", clip.path.split("/")[-1]) for clip in clips]
    assert [match and f"g{match[1]}" for match in found] == [clip.group for clip in clips]
    assert Counter(clip.group for clip in clips) == {"g01": 6, "g02": 4, "g03": 4}
    assert len({clip.path for clip in clips}) == 14
    assert clips[3].path == "disc-sideways/disc-sideways_g01_c002.avi"


def test_each_label_has_its_share_of_each_mode() -> None:
    clips = plan_clips(CONFLICT)
    assert set(Counter((clip.label, clip.mode) for clip in clips).values()) == {3}
    shares = plan_clips(replace(CONFLICT, clips=10, fractions=(0.55, 0.25, 0.2)))
    assert Counter(clip.mode for clip in shares[:10]) == {
        "clean": 6,
        "rgb_unreliable": 2,
        "flow_unreliable": 2,
    }


def test_reliability_none_leaves_every_clip_clean() -> None:
    assert {clip.mode for clip in plan_clips(replace(CONFLICT, reliability="none"))} == {"clean"}


def test_conflict_shows_another_class_in_the_unreliable_modality_only() -> None:
    for clip in plan_clips(CONFLICT):
        assert (clip.shown_appearance != clip.appearance) == (clip.mode == "rgb_unreliable")
        assert (clip.shown_motion != clip.motion) == (clip.mode == "flow_unreliable")
        assert clip.shown_appearance in ("disc", "square", "triangle")
        assert clip.shown_motion in ("sideways", "down", "spin")


def test_noise_shows_no_class_in_the_unreliable_modality() -> None:
    clips = plan_clips(replace(CONFLICT, reliability="noise"))
    assert {c.shown_appearance for c in clips if c.mode == "rgb_unreliable"} == {"scrambled"}
    assert {c.shown_motion for c in clips if c.mode == "flow_unreliable"} == {"jolts"}


@pytest.mark.parametrize(
    ("cue", "rgb", "flow"), [("cross", "motion", "mark"), ("own", "mark", "motion"), ("none", "", "")]
)
def test_cue_lies_in_the_stream_asked_for(cue: str, rgb: str, flow: str) -> None:
    expected = {"clean": "", "rgb_unreliable": rgb, "flow_unreliable": flow}
    assert all(clip.cue == expected[clip.mode] for clip in plan_clips(replace(CONFLICT, cue=cue)))


def test_plan_follows_from_the_seed() -> None:
    assert plan_clips(CONFLICT) == plan_clips(replace(CONFLICT))
    other = plan_clips(replace(CONFLICT, seed=1))
    assert not {clip.seed for clip in plan_clips(CONFLICT)} & {clip.seed for clip in other}
