"""Pictures of one moment side by side, each with its name, and the legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.typing import UInt8
from flowkit.view.canvas import FAINT, blank, fit, paste, shortened, text_width, write_text
from flowkit.view.legend import LEGEND_WIDTH, legend
from flowkit.view.wheel import flow_to_rgb, magnitude_to_rgb

Panel = tuple[str, UInt8]
"""A name and a picture, uint8 (H, W, 3) RGB."""

_GAP = 6
_HEAD = 50


def draw_row(
    panels: Sequence[Panel],
    *,
    title: str,
    note: str = "",
    max_px: float,
    unit: str = "px/frame",
    tile_width: int = 320,
) -> UInt8:
    """Draw pictures of one size side by side.

    Parameters
    ----------
    panels
        Names and pictures, at least one.
    title, note
        Text above them on the left and on the right.
    max_px, unit
        Scale of the flow among them, for the legend.
    tile_width
        Width of each picture, px.

    Returns
    -------
    uint8 array (H, W, 3), RGB
        Both sides even, as video codecs need them.
    """
    source_height, source_width = panels[0][1].shape[:2]
    tile_height = max(1, round(source_height * tile_width / source_width))
    key = legend(tile_height, max_px=max_px, unit=unit)
    left = _GAP + len(panels) * (tile_width + _GAP)
    height, width = _HEAD + max(tile_height, len(key)) + _GAP, left + LEGEND_WIDTH
    canvas = blank(height + height % 2, width + width % 2)
    write_text(canvas, note, (width - _GAP, 20), colour=FAINT, right=True)
    room = width - 4 * _GAP - text_width(note)
    write_text(canvas, shortened(title, room, size=11), (_GAP, 20), size=11)
    for k, (name, picture) in enumerate(panels):
        x = _GAP + k * (tile_width + _GAP)
        write_text(canvas, shortened(name, tile_width), (x, _HEAD - 8), colour=FAINT)
        paste(canvas, fit(picture, tile_width, tile_height), x, _HEAD)
    paste(canvas, key, left, _HEAD)
    return canvas


def flow_panels(frame: UInt8 | None, flow: NDArray[np.float32], *, max_px: float) -> list[Panel]:
    """Return the panels of one moment: its frame if there is one, the flow, its magnitude."""
    return [
        *([("frame", frame)] if frame is not None else []),
        ("flow", flow_to_rgb(flow, max_px=max_px)),
        ("magnitude", magnitude_to_rgb(flow, max_px=max_px)),
    ]
