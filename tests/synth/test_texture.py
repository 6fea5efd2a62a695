from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowkit.synth import APPEARANCES
from flowkit.synth.texture import NOISE_PERIOD_PX, colour, noise, sprite_image

X = np.arange(128, dtype=np.float32)[None]
Y = np.arange(96, dtype=np.float32)[:, None]


def test_noise_has_zero_mean_and_unit_variance_over_its_period() -> None:
    axis = np.arange(NOISE_PERIOD_PX, dtype=np.float32)
    whole = noise(axis[None], axis[:, None])
    np.testing.assert_allclose(whole.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(whole.std(axis=(0, 1)), 1, atol=1e-2)
    assert abs(np.corrcoef(whole[..., 0].ravel(), whole[..., 1].ravel())[0, 1]) < 0.1


def test_noise_repeats_after_its_period() -> None:
    period = np.float32(NOISE_PERIOD_PX)
    np.testing.assert_array_equal(noise(X, Y), noise(X - period, Y + period))


def test_half_a_pixel_twice_is_a_pixel() -> None:
    """Band limit: the spectrum's phase shift of the sampled field is the field shifted."""
    axis = np.arange(NOISE_PERIOD_PX, dtype=np.float32)
    field, shifted = noise(axis[None], axis[:, None]), noise(axis[None] + np.float32(0.25), axis[:, None])
    phase = np.exp(2j * np.pi * 0.25 * np.fft.fftfreq(NOISE_PERIOD_PX))[None, :, None]
    moved = np.fft.ifft(np.fft.fft(field, axis=1) * phase, axis=1).real
    # Cubic interpolation between texels; 1 is the field's standard deviation.
    assert np.abs(moved - shifted).std() < 0.02


@pytest.mark.parametrize(("blue", "red"), [(60.0, 0.0), (-40.0, 40.0), (0.0, -60.0)])
def test_colour_does_not_change_the_grey_that_flow_sees(blue: float, red: float) -> None:
    luma = np.full((4, 4), 120, np.float32)
    image = np.clip(np.rint(colour(luma, blue, red)), 0, 255).astype(np.uint8)
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., ::-1]), cv2.COLOR_BGR2GRAY)
    assert np.abs(grey.astype(int) - 120).max() <= 1


def test_every_appearance_has_its_own_emblem() -> None:
    """Emblem and pattern, not only colour: the grey images of one seed differ."""
    greys = [
        sprite_image(name, 13, np.random.default_rng(5))[..., :3].mean(axis=2)
        for name in (*APPEARANCES, "scrambled")
    ]
    body = sprite_image("disc", 13, np.random.default_rng(5))[..., 3] > 0.5
    for index, one in enumerate(greys):
        for other in greys[:index]:
            assert np.abs(one - other)[body].mean() > 5


def test_outline_is_opaque_inside_and_does_not_depend_on_the_appearance() -> None:
    outlines = [sprite_image(name, 13, np.random.default_rng(5))[..., 3] for name in APPEARANCES]
    middle = len(outlines[0]) // 2
    assert outlines[0][middle, middle] == 1
    edge = np.concatenate([outlines[0][[0, -1]], outlines[0][:, [0, -1]].T])
    assert not edge.any()
    for outline in outlines[1:]:
        np.testing.assert_array_equal(outline, outlines[0])
