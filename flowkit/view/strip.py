"""A video as one picture: moments from left to right; frame, flow and magnitude below one another."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit.typing import UInt8
from flowkit.view.canvas import FAINT, blank, fit, paste, shortened, write_text
from flowkit.view.legend import LEGEND_WIDTH, legend, per_step
from flowkit.view.moment import Footage, Moment
from flowkit.view.row import flow_panels

_GAP = 6
_HEAD = 34
_CAPTION = 20


def strip(footage: Footage, *, columns: int = 6, tile_width: int = 240) -> UInt8:
    """Draw moments of a video side by side.

    Parameters
    ----------
    footage
        The video and its scale.
    columns
        How many moments, evenly spread; all where there are fewer.
    tile_width
        Width of each picture, px.

    Returns
    -------
    uint8 array (H, W, 3), RGB
        A title, a row of frames where the store keeps them, rows of flow and of its magnitude,
        and the legend.
    """
    moments = list(footage.moments(footage.spread(columns)))
    clip = footage.clip
    tile_height = max(1, round(clip.height * tile_width / clip.width))
    rows = _rows(moments, max_px=footage.max_px)
    height = len(rows) * (tile_height + _GAP) - _GAP
    wide = len(moments) * (tile_width + _GAP)
    key = legend(height, max_px=footage.max_px, unit=per_step(footage.step))
    canvas = blank(_HEAD + _CAPTION + max(height, len(key)) + 2 * _GAP, _GAP + wide + LEGEND_WIDTH)
    _write_title(canvas, footage)
    top = _HEAD + _CAPTION
    for column, moment in enumerate(moments):
        x = _GAP + column * (tile_width + _GAP)
        words = shortened(f"#{moment.index}  {moment.seconds:.2f} s", tile_width, size=8)
        write_text(canvas, words, (x, top - 7), size=8, colour=FAINT)
        for row, pictures in enumerate(rows):
            tile = fit(pictures[column], tile_width, tile_height)
            paste(canvas, tile, x, top + row * (tile_height + _GAP))
    paste(canvas, key, _GAP + wide, top)
    return canvas


def _rows(moments: Sequence[Moment], *, max_px: float) -> list[list[UInt8]]:
    """Return the rows of pictures of some moments: frames if there are, flow, magnitude."""
    columns = [flow_panels(moment.frame, moment.flow, max_px=max_px) for moment in moments]
    return [[picture for _, picture in row] for row in zip(*columns, strict=True)]


def _write_title(canvas: UInt8, footage: Footage) -> None:
    clip = footage.clip
    facts = f"{clip.width}x{clip.height}, {clip.n_frames} frames"
    label = f", label {clip.label}" if clip.label else ""
    room = canvas.shape[1] - 2 * _GAP
    write_text(canvas, shortened(f"{clip.id}   {facts}{label}", room, size=11), (_GAP, 24), size=11)
