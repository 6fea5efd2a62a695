"""Flow as colours, and their legend: direction on the Middlebury wheel, magnitude on a ramp to light.

Source: Baker, Scharstein, Lewis, Roth, Black, Szeliski, "A Database and Evaluation Methodology for
Optical Flow", IJCV 92, 2011, section 4; the steps of the wheel are those of its evaluation code.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.typing import Flow, UInt8
from flowkit.validate import check_array, check_positive
from flowkit.view.canvas import FAINT, INK, PAPER, Colour, blank, fit, paste, text_width, write_text

# Steps from one hue to the next; fewer where the eye distinguishes hues less well.
_STEPS = (
    ((255, 0, 0), (255, 255, 0), 15),
    ((255, 255, 0), (0, 255, 0), 6),
    ((0, 255, 0), (0, 255, 255), 4),
    ((0, 255, 255), (0, 0, 255), 11),
    ((0, 0, 255), (255, 0, 255), 13),
    ((255, 0, 255), (255, 0, 0), 6),
)
_BEYOND_DIM = 0.75
# Coloured at once, at 150 bytes a pixel.
_AT_ONCE_PX = 1 << 20

_SCALE_QUANTILE = 0.98
_LEAST_SCALE_PX = 0.5
_ROUND = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

LEGEND_WIDTH = 150
_MARGIN = 12
_DISC = 110
_BAR_WIDTH = 16
_SMOOTH = 4


@functools.cache
def colour_wheel() -> UInt8:
    """Return the 55 hues of the wheel, uint8 (55, 3) RGB: red, yellow, green, cyan, blue, magenta."""
    hues = [
        # The evaluation code truncates: 255 i / n, then the falling channel as 255 minus it.
        [
            b if a == b else (255 * i // n if b > a else 255 - 255 * i // n)
            for a, b in zip(first, last, strict=True)
        ]
        for first, last, n in _STEPS
        for i in range(n)
    ]
    wheel = np.array(hues, np.uint8)
    wheel.setflags(write=False)
    return wheel


def flow_to_rgb(flow: Flow, *, max_px: float) -> UInt8:
    """Colour a flow field: hue is the direction, saturation the magnitude.

    Parameters
    ----------
    flow
        float32 (2, H, W), u to the right, v down, px; NaN where unknown.
    max_px
        Magnitude of full saturation, px, > 0. Faster pixels are full and darkened by a quarter.

    Returns
    -------
    uint8 array (H, W, 3), RGB
        White is no motion, red is to the right, black is unknown.

    Raises
    ------
    InvalidParameterError
        Another shape, or max_px that is not above zero.
    """
    _, height, width = _checked(flow, max_px).shape
    colours = np.empty((height, width, 3), np.uint8)
    rows = max(1, _AT_ONCE_PX // max(1, width))
    for top in range(0, height, rows):
        colours[top : top + rows] = _coloured(flow[:, top : top + rows], max_px)
    return colours


def _coloured(flow: Flow, max_px: float) -> UInt8:
    radius = np.hypot(*flow) / np.float32(max_px)
    unknown = ~np.isfinite(radius)
    wheel = colour_wheel().astype(np.float32) / 255
    # atan2(-v, -u) / pi in [-1, 1] runs over the wheel's rows from first to last.
    turn = np.arctan2(-flow[1], -flow[0]) / np.float32(math.pi)
    position = np.where(unknown, 0, (turn + 1) / 2 * (len(wheel) - 1))
    lower = position.astype(np.int32)
    upper = (lower + 1) % len(wheel)
    part = (position - lower)[..., None]
    hue = (1 - part) * wheel[lower] + part * wheel[upper]
    radius = np.where(unknown, 0, radius)[..., None]
    colour = np.where(radius <= 1, 1 - radius * (1 - hue), hue * _BEYOND_DIM)
    colour[unknown] = 0
    return (colour * 255).astype(np.uint8)


def magnitude_to_rgb(flow: Flow, *, max_px: float) -> UInt8:
    """Colour the magnitude of a flow field, dark at 0 and light from `max_px` on; see `flow_to_rgb`."""
    fraction = np.hypot(*_checked(flow, max_px)) / np.float32(max_px)
    return ramp(np.where(np.isfinite(fraction), fraction, 0))


def ramp(fraction: NDArray[np.floating]) -> UInt8:
    """Colour fractions in [0, 1], float (H, W), on a perceptually even ramp; uint8 (H, W, 3) RGB."""
    levels = (np.clip(fraction, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def fitting_scale(magnitudes: NDArray[np.floating]) -> float:
    """Return a round `max_px` that at most one pixel in 50 exceeds, at least .5 px.

    Parameters
    ----------
    magnitudes
        |flow| of any shape, px; NaN where unknown.
    """
    known = magnitudes[np.isfinite(magnitudes)]
    high = max(_LEAST_SCALE_PX, float(np.quantile(known, _SCALE_QUANTILE))) if known.size else _LEAST_SCALE_PX
    decade = 10.0 ** math.floor(math.log10(high))
    return next(decade * step for step in _ROUND if decade * step >= high * (1 - 1e-6))


def legend(height: int, *, max_px: float, unit: str = "px/frame") -> UInt8:
    """Draw the legend of the colours: the wheel with its scale, and the ramp of magnitudes.

    Parameters
    ----------
    height
        px; the ramp of magnitudes is left out where there is no room for it.
    max_px
        The scale of the images: magnitude of full saturation, px.
    unit
        Unit of flow.

    Returns
    -------
    uint8 array (height, LEGEND_WIDTH, 3), RGB
        Taller than asked for where the wheel needs it.
    """
    height = max(height, _MARGIN + _DISC + 30)
    canvas = blank(height, LEGEND_WIDTH)
    left = (LEGEND_WIDTH - _DISC) // 2
    paste(canvas, disc(_DISC), left, _MARGIN)
    _write_centred(canvas, f"rim: {max_px:g} {unit}", _MARGIN + _DISC + 18)
    top = _MARGIN + _DISC + 40
    if height - top - _MARGIN >= 60:
        _draw_ramp(canvas, top, min(height - top - _MARGIN, 140), max_px)
    return canvas


@functools.cache
def disc(diameter: int) -> UInt8:
    """Return the wheel as a disc on the canvas' colour, uint8 (diameter, diameter, 3).

    The rim is the direction at full saturation, the centre no motion.
    """
    side = diameter * _SMOOTH
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    flow = np.stack(np.broadcast_arrays(axis[None, :], axis[:, None])).astype(np.float32)
    colours = flow_to_rgb(flow, max_px=1.0)
    colours[np.hypot(*flow) > 1] = PAPER
    return fit(colours, diameter, diameter)  # averaging smooths the rim


def per_step(step: int) -> str:
    """Return the unit of flow between frames `step` apart."""
    return "px/frame" if step == 1 else f"px/{step} frames"


def _draw_ramp(canvas: UInt8, top: int, height: int, max_px: float) -> None:
    _write_centred(canvas, "magnitude, px", top, colour=FAINT)
    top, height = top + 10, height - 10
    left = (LEGEND_WIDTH - 60) // 2
    fractions = np.linspace(1, 0, height, dtype=np.float32)
    paste(canvas, ramp(np.broadcast_to(fractions[:, None], (height, _BAR_WIDTH))), left, top)
    for fraction in (1.0, 0.5, 0.0):
        y = top + round((1 - fraction) * (height - 9)) + 9
        write_text(canvas, f"{fraction * max_px:g}", (left + _BAR_WIDTH + 8, y))


def _write_centred(canvas: UInt8, text: str, y: int, *, colour: Colour = INK) -> None:
    write_text(canvas, text, ((LEGEND_WIDTH - text_width(text)) // 2, y), colour=colour)


def _checked(flow: Flow, max_px: float) -> Flow:
    check_array("flow", flow, (2, "H", "W"))
    check_positive("max_px", max_px)
    return flow
