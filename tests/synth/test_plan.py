from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from flowkit.synth import SynthConfig, plan_clips

CONFLICT = SynthConfig(clips=9, classes=3, reliability="conflict")


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
