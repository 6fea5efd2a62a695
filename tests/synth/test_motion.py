from __future__ import annotations

import numpy as np
import pytest

from flowkit.synth import MOTIONS
from flowkit.synth.motion import Poses, jolts, trajectory


def poses(motion: str, seed: int = 0, *, unit: float = 2.0) -> Poses:
    return trajectory(motion, 30, unit=unit, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("motion", [*MOTIONS, "jolts"])
def test_no_step_is_larger_than_solvers_can_follow(motion: str) -> None:
    for seed in range(20):
        steps = np.diff(poses(motion, seed, unit=1.0).offsets, axis=0)
        # Jolts span a square of 3.6 px; every class stays within 1.3 times its largest pace.
        assert np.hypot(*steps.T).max() <= (5.1 if motion == "jolts" else 2.4)


@pytest.mark.parametrize(("motion", "axis", "sign"), [("down", 1, 1), ("up", 1, -1)])
def test_vertical_translation_is_steady(motion: str, axis: int, sign: int) -> None:
    steps = np.diff(poses(motion).offsets, axis=0)
    assert np.ptp(steps, axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert 2.4 <= sign * steps[0, axis] <= 3.6
    assert steps[0, 1 - axis] == 0


def way(motion: str, run: Poses) -> float:
    """Sign of what a flip changes: the way along x, of the turn, or around the circle."""
    (x, y), (next_x, next_y) = np.diff(run.offsets[:3], axis=0)
    signed = {"sideways": x, "spin": run.angles[1] - run.angles[0], "circle": x * next_y - y * next_x}
    return float(np.sign(signed[motion]))


@pytest.mark.parametrize("motion", ["sideways", "spin", "circle"])
def test_class_goes_either_way_so_that_a_flipped_clip_keeps_it(motion: str) -> None:
    assert {way(motion, poses(motion, seed)) for seed in range(20)} == {-1, 1}


@pytest.mark.parametrize(("motion", "axis"), [("shake", 0), ("bob", 1)])
def test_oscillation_repeats_after_six_frames_on_one_axis(motion: str, axis: int) -> None:
    offsets = poses(motion).offsets
    np.testing.assert_allclose(offsets[6:], offsets[:-6], atol=1e-9)
    assert np.ptp(offsets[:, axis]) > 2
    assert np.ptp(offsets[:, 1 - axis]) == 0


@pytest.mark.parametrize("motion", ["spin", "pulse"])
def test_motion_in_place_does_not_travel(motion: str) -> None:
    run = poses(motion)
    assert not run.offsets.any()
    assert (np.ptp(run.angles) > 1) == (motion == "spin")
    assert (np.ptp(run.scales) > 0.2) == (motion == "pulse")


def test_sizes_of_single_frames_do_not_show_the_pulse() -> None:
    spreads = [
        np.array([poses(motion, seed).scales[7] for seed in seeds])
        for motion, seeds in (("pulse", range(400)), ("down", range(400, 800)))
    ]
    # A scale's deviation is .22: that of a mean of 400 is .011, of two means' difference .016.
    assert abs(spreads[0].mean() - spreads[1].mean()) < 0.05
    assert abs(spreads[0].std() - spreads[1].std()) < 0.03


def test_offsets_grow_with_the_image() -> None:
    np.testing.assert_allclose(poses("circle", unit=6.0).offsets, 3 * poses("circle").offsets)


def test_jolts_are_independent_from_frame_to_frame() -> None:
    places = jolts(4000, unit=1.0, rng=np.random.default_rng(0))[:, 0]
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.06
