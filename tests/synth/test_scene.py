from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.synth import MOTIONS, Scene, SynthConfig, build_scene, plan_clips
from flowkit.synth.scene import BEACON, MARK, SPRITE

CONFIG = SynthConfig(clips=1, classes=8, frames=8)
CUED = SynthConfig(clips=3, classes=2, frames=8, reliability="conflict", cue="cross")
JOLTS = SynthConfig(clips=1, classes=2, frames=8, reliability="noise", fractions=(0, 0, 1))

Mask = NDArray[np.bool_]


def scenes(config: SynthConfig) -> list[Scene]:
    return [build_scene(clip, config) for clip in plan_clips(config)]


def scene_of(mode: str, config: SynthConfig = CUED) -> Scene:
    return next(build_scene(clip, config) for clip in plan_clips(config) if clip.mode == mode)


def grey(scene: Scene, index: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(scene.frame(index), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def warped(image: NDArray[np.generic], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image at p + flow(p)."""
    y, x = np.mgrid[: flow.shape[1], : flow.shape[2]].astype(np.float32)
    return np.asarray(
        cv2.remap(image.astype(np.float32), x + flow[0], y + flow[1], cv2.INTER_CUBIC), dtype=np.float32
    )


def away_from_edges(scene: Scene, index: int) -> Mask:
    """Pixels of one layer all around, in this frame and where they go, inside the image."""

    def within(at: int) -> NDArray[np.uint8]:
        seen, around = scene.layers(at), np.ones((7, 7), np.uint8)
        pure = cv2.erode(seen, around) == cv2.dilate(seen, around)
        pure[[0, 1, -2, -1]] = pure[:, [0, 1, -2, -1]] = False
        return np.where(pure, seen + 1, 0).astype(np.uint8)

    now, then = within(index), within(index + 1)
    return np.asarray((now > 0) & (np.abs(warped(then, scene.flow(index)) - now) < 1e-3), dtype=np.bool_)


def residual(scene: Scene, index: int, shift: tuple[float, float] = (0, 0)) -> float:
    """Mean squared difference, in grey levels, of the sprite and the next frame's warped back."""
    flow = scene.flow(index) + np.array(shift, np.float32)[:, None, None]
    valid = away_from_edges(scene, index) & (scene.layers(index) == SPRITE)
    assert valid.sum() >= 40
    difference = warped(grey(scene, index + 1), flow) - grey(scene, index)
    return float((difference[valid] ** 2).mean())


@pytest.mark.parametrize("scene", scenes(CONFIG) + scenes(JOLTS), ids=[*MOTIONS, "jolts", "jolts2"])
def test_next_frame_warped_back_by_the_true_flow_is_this_frame(scene: Scene) -> None:
    index = 3
    valid = away_from_edges(scene, index)
    difference = np.abs(warped(grey(scene, index + 1), scene.flow(index)) - grey(scene, index))[valid]
    # Rounding both frames to 8 bits alone gives .3 to .4 levels.
    assert valid.mean() > 0.4
    assert difference.mean() < 0.8
    assert np.quantile(difference, 0.99) < 4


@pytest.mark.parametrize("scene", scenes(CONFIG), ids=MOTIONS)
def test_no_flow_a_tenth_of_a_pixel_off_fits_as_well(scene: Scene) -> None:
    exact = residual(scene, 2)
    for shift in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert residual(scene, 2, shift) > exact


def test_true_flow_agrees_with_opencv_tvl1() -> None:
    # The type stubs of cv2 lack the contributed modules' factories.
    solver = getattr(cv2.optflow, "DualTVL1OpticalFlow_create")()  # noqa: B009
    for scene in scenes(CONFIG)[:4]:
        found = solver.calc(grey(scene, 3), grey(scene, 4), None).transpose(2, 0, 1)
        error = np.hypot(*(found - scene.flow(3)))
        assert error[away_from_edges(scene, 3)].mean() < 0.12
        # Occlusions and the rim included, in px.
        assert error.mean() < 0.3


def test_sprite_leaving_on_one_side_comes_in_on_the_other() -> None:
    config = replace(CONFIG, frames=60)
    scene = scenes(config)[1]
    areas = [int((scene.layers(index) == SPRITE).sum()) for index in range(60)]
    assert scene.poses.offsets[-1, 1] > config.height
    # Pixel counting of an outline of some 80 px.
    assert np.ptp(areas) <= 0.08 * np.mean(areas)


def test_patches_are_drawn_only_where_a_cue_is_asked_for() -> None:
    assert {MARK, BEACON} <= set(np.unique(scene_of("clean").layers(0)))
    assert not {MARK, BEACON} & set(np.unique(scenes(CONFIG)[0].layers(0)))


def test_beacon_moves_and_only_it_where_the_appearance_is_wrong() -> None:
    for mode, moves in (("clean", False), ("rgb_unreliable", True), ("flow_unreliable", False)):
        scene = scene_of(mode)
        speeds = np.hypot(*np.stack([scene.flow(index) for index in range(7)], axis=1))
        assert (speeds[:, scene.layers(0) == BEACON].min() > 1) == moves
        assert speeds[:, scene.layers(0) == MARK].max() == 0


def test_mark_changes_its_look_and_never_moves() -> None:
    looks = {}
    for mode in ("clean", "rgb_unreliable", "flow_unreliable"):
        scene = scene_of(mode)
        assert scene.mark is not None
        looks[mode] = scene.frame(0)[scene.mark.window]
        np.testing.assert_array_equal(looks[mode], scene.frame(7)[scene.mark.window])
    np.testing.assert_array_equal(looks["clean"], looks["rgb_unreliable"])
    assert np.abs(looks["flow_unreliable"].astype(int) - looks["clean"]).mean() > 50


def test_cue_own_swaps_the_patches() -> None:
    own = replace(CUED, cue="own")
    assert scene_of("rgb_unreliable", own).marked
    assert np.ptp(scene_of("rgb_unreliable", own).scroll) == 0
    assert not scene_of("flow_unreliable", own).marked
    assert np.ptp(scene_of("flow_unreliable", own).scroll) > 0


def test_shaken_camera_moves_the_backdrop_by_jolts() -> None:
    steps = [np.abs(np.diff(scene.pan, axis=0)).max() for scene in (*scenes(JOLTS), scenes(CONFIG)[0])]
    assert min(steps[:2]) > 1.5
    assert steps[2] <= 0.5


@pytest.mark.parametrize("size", [(96, 64), (64, 128)])
def test_frames_and_flow_have_the_size_asked_for(size: tuple[int, int]) -> None:
    width, height = size
    scene = scenes(replace(CONFIG, width=width, height=height))[0]
    assert scene.frame(0).shape == (height, width, 3)
    assert scene.frame(0).dtype == np.uint8
    assert scene.flow(0).shape == (2, height, width)
    assert scene.flow(0).dtype == np.float32
    assert len(scene) == 8
