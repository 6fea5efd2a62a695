"""What the colours of a picture mean: the wheel with its scale, and the ramp of magnitudes."""

from __future__ import annotations

import functools

import numpy as np

from flowkit.typing import UInt8
from flowkit.view.canvas import FAINT, INK, PAPER, Colour, blank, fit, paste, text_width, write_text
from flowkit.view.wheel import flow_to_rgb, ramp

LEGEND_WIDTH = 150
_MARGIN = 12
_DISC = 110
_BAR_WIDTH = 16
_SMOOTH = 4


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


def legend(height: int, *, max_px: float, unit: str = "px/frame") -> UInt8:
    """Return the legend for a row of pictures, uint8 (height, LEGEND_WIDTH, 3).

    Parameters
    ----------
    height
        px; the ramp of magnitudes is left out where there is no room for it.
    max_px
        The scale of the pictures: magnitude of full saturation, px.
    unit
        What a px is counted per.
    """
    height = max(height, _MARGIN + _DISC + 30)
    canvas = blank(height, LEGEND_WIDTH)
    left = (LEGEND_WIDTH - _DISC) // 2
    paste(canvas, disc(_DISC), left, _MARGIN)
    _centred(canvas, f"rim: {max_px:g} {unit}", _MARGIN + _DISC + 18)
    top = _MARGIN + _DISC + 40
    if height - top - _MARGIN >= 60:
        _draw_ramp(canvas, top, min(height - top - _MARGIN, 140), max_px)
    return canvas


def per_step(step: int) -> str:
    """Return the unit of flow between frames `step` apart."""
    return "px/frame" if step == 1 else f"px/{step} frames"


def _draw_ramp(canvas: UInt8, top: int, height: int, max_px: float) -> None:
    _centred(canvas, "magnitude, px", top, colour=FAINT)
    top, height = top + 10, height - 10
    left = (LEGEND_WIDTH - 60) // 2
    shares = np.linspace(1, 0, height, dtype=np.float32)
    paste(canvas, ramp(np.broadcast_to(shares[:, None], (height, _BAR_WIDTH))), left, top)
    for share in (1.0, 0.5, 0.0):
        y = top + round((1 - share) * (height - 9)) + 9
        write_text(canvas, f"{share * max_px:g}", (left + _BAR_WIDTH + 8, y))


def _centred(canvas: UInt8, words: str, y: int, *, colour: Colour = INK) -> None:
    write_text(canvas, words, ((LEGEND_WIDTH - text_width(words)) // 2, y), colour=colour)
