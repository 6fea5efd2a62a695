"""Band-limited textures and the sprites painted with them.

Everything is band-limited well below the pixel grid's limit: a shifted texture is then the same
texture to interpolation's accuracy, and brightness constancy, which optical flow rests on, holds.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from flowkit.synth.plan import APPEARANCES, SCRAMBLED
from flowkit.typing import Float32

TEXELS_PER_PX = 2
NOISE_PERIOD_PX = 256
_BANK_SIZE = TEXELS_PER_PX * NOISE_PERIOD_PX
_SHORTEST_PX, _LONGEST_PX = 4.5, 64.0


@lru_cache(maxsize=1)
def _noise_bank() -> Float32:
    """Two periodic noise fields (S, S, 2) of zero mean and unit variance, 1/f within their band."""
    white = np.random.default_rng(0).standard_normal((2, _BANK_SIZE, _BANK_SIZE))
    frequency = np.hypot(np.fft.fftfreq(_BANK_SIZE)[:, None], np.fft.rfftfreq(_BANK_SIZE)) * TEXELS_PER_PX
    frequency[0, 0] = np.inf
    band = np.exp(-((frequency * _SHORTEST_PX) ** 4)) * (frequency * _LONGEST_PX >= 1) / frequency
    fields = np.fft.irfft2(np.fft.rfft2(white) * band, s=(_BANK_SIZE, _BANK_SIZE))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return np.ascontiguousarray(fields.transpose(1, 2, 0), dtype=np.float32)


def noise(x: Float32, y: Float32) -> Float32:
    """Sample the plane's noise.

    Parameters
    ----------
    x, y
        float32, shapes that broadcast to (H, W): positions on the plane in px, within 16,000 of the
        origin (cv2 keeps texels in 16 bits); the plane repeats after `NOISE_PERIOD_PX`.

    Returns
    -------
    float32 (H, W, 2)
        Two independent fields of zero mean and unit variance, wavelengths from about 4.5 px to 64.
    """
    # Two maps of their own: cv2 takes no broadcast views.
    columns, rows = (np.array(axis) * np.float32(TEXELS_PER_PX) for axis in np.broadcast_arrays(x, y))
    sampled = cv2.remap(_noise_bank(), columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sampled, dtype=np.float32)


def colour(luma: Float32, blue: Float32 | float, red: Float32 | float) -> Float32:
    """Return RGB float32 (H, W, 3) of a luma (H, W) and two colour differences.

    Equal luma gives equal grey, so that colour, which shows the appearance, does not enter the flow.
    Source: ITU-R BT.601, full range.
    """
    return np.stack([luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue], axis=-1)


def sprite_image(appearance: str, radius: float, rng: Generator) -> Float32:
    """Paint a sprite: a patterned body with an emblem.

    Emblem, colour and pattern show the appearance. The body's outline is drawn at random, because
    an outline enters the flow as well and would show the appearance there.

    Parameters
    ----------
    appearance
        A name of `APPEARANCES`, or "scrambled": a shapeless emblem of many colours.
    radius
        Mean radius of the body, px.
    rng
        Draws outline, shades and noise.

    Returns
    -------
    float32 (S, S, 4)
        RGB in 0 to 255 and opacity in 0 to 1, `TEXELS_PER_PX` texels per px, the sprite's centre
        in the centre of the square's pixels, (S - 1) / 2.
    """
    half = int(np.ceil(1.25 * radius * TEXELS_PER_PX))
    axis = (np.arange(2 * half + 1, dtype=np.float32) - half) / np.float32(TEXELS_PER_PX)
    x, y = np.meshgrid(axis, axis)
    across, down = rng.uniform(0, NOISE_PERIOD_PX, 2).astype(np.float32)
    grain = noise(x + across, y + down)
    opacity = _inside(_body(x, y, radius, rng))
    x, y = x / np.float32(radius), y / np.float32(radius)
    emblem = _inside(radius * 0.68 * _emblem(appearance, x / 0.68, y / 0.68, rng))
    luma = rng.uniform(105, 130) + 20 * grain[..., 0] + 32 * emblem
    luma += 26 * (1 - 0.6 * emblem) * _pattern(appearance, x, y)
    blue, red = _tint(appearance, grain, rng)
    strength = 18 + 42 * emblem
    return np.dstack([colour(luma, strength * blue, strength * red), opacity]).astype(np.float32)


def _inside(distance: Float32) -> Float32:
    """Opacity of a shape by the signed distance from its edge in px: soft over two px."""
    return np.clip(0.5 - distance / 2, 0, 1).astype(np.float32)


def _body(x: Float32, y: Float32, radius: float, rng: Generator) -> Float32:
    angle, (two, three) = np.arctan2(y, x), rng.uniform(0, 2 * np.pi, 2)
    edge = radius * (1 + 0.08 * np.cos(2 * angle + two) + 0.07 * np.cos(3 * angle + three))
    return np.asarray(np.hypot(x, y) - edge, dtype=np.float32)


def _emblem(appearance: str, x: Float32, y: Float32, rng: Generator) -> Float32:
    """Distance from an emblem's edge, negative inside, in units of the emblem's radius."""
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    ax, ay = np.abs(x), np.abs(y)
    phases = rng.uniform(0, 2 * np.pi, 4)
    match appearance:
        case "disc":
            distance = r - 0.8
        case "square":
            distance = np.maximum(ax, ay) - 0.72
        case "triangle":
            distance = np.maximum(y, 0.866 * ax - 0.5 * y) - 0.5
        case "cross":
            distance = np.minimum(np.maximum(ax - 0.95, ay - 0.3), np.maximum(ax - 0.3, ay - 0.95))
        case "ring":
            distance = np.abs(r - 0.68) - 0.25
        case "star":
            distance = r - 0.65 - 0.35 * np.cos(5 * angle)
        case "bar":
            distance = np.maximum(ax - 1, ay - 0.38)
        case "crescent":
            distance = np.maximum(r - 0.95, 0.7 - np.hypot(x - 0.5, y))
        case _:
            distance = r - 0.65 - sum(0.12 * np.cos((k + 2) * angle + phases[k]) for k in range(4))
    return np.asarray(distance, dtype=np.float32)


def _pattern(appearance: str, x: Float32, y: Float32) -> Float32:
    """Shade of the body, -1 to 1; x and y in units of the body's radius."""
    if appearance == SCRAMBLED:
        return np.zeros_like(x)
    number = APPEARANCES.index(appearance)
    waves = 2 * np.pi * (1.8 if number < 4 else 2.6)
    shades = (
        np.sin(waves * x),
        np.sin(waves * x) * np.sin(waves * y),
        np.sin(waves * np.hypot(x, y)),
        np.sin(6 * np.arctan2(y, x)) * np.minimum(1, 3 * np.hypot(x, y)),
    )
    return np.asarray(shades[number % 4], dtype=np.float32)


def _tint(appearance: str, grain: Float32, rng: Generator) -> tuple[Float32 | float, Float32 | float]:
    """Direction in the plane of colour differences, within 8 degrees of the class's own."""
    if appearance == SCRAMBLED:
        return np.sin(3 * grain[..., 0]), np.sin(3 * grain[..., 1])
    # Every prefix of the classes is spread over the circle.
    degrees = (0, 180, 90, 270, 45, 225, 135, 315)[APPEARANCES.index(appearance)] + rng.uniform(-8, 8)
    return float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
