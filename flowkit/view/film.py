"""A video beside its flow, picture by picture, for a GIF or MP4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.view.canvas import FAINT, blank, fit, paste, shortened, write_text
from flowkit.view.legend import LEGEND_WIDTH, legend
from flowkit.view.moment import Footage, Moment
from flowkit.view.strip import per_step, tiles

UInt8 = NDArray[np.uint8]

_GAP = 6
_HEAD = 26


def film(footage: Footage, indices: Sequence[int], *, tile_width: int = 320) -> Iterator[UInt8]:
    """Yield one picture a moment: frame (if kept), flow and magnitude side by side, with the legend.

    Parameters
    ----------
    footage
        The video and its scale.
    indices
        Fields to show, in order.
    tile_width
        Width of each of the panels, px.

    Yields
    ------
    uint8 array (H, W, 3), RGB
        All of one size, both sides even, as video codecs need them.
    """
    clip = footage.clip
    tile_height = max(1, round(clip.height * tile_width / clip.width))
    key = legend(tile_height, max_px=footage.max_px, unit=per_step(footage.step))
    for moment in footage.moments(indices):
        panels = [row[0] for row in tiles([moment], max_px=footage.max_px)]
        width = _GAP + len(panels) * (tile_width + _GAP) + LEGEND_WIDTH
        height = _HEAD + max(tile_height, len(key)) + _GAP
        canvas = blank(height + height % 2, width + width % 2)
        _write_head(canvas, footage, moment)
        for k, panel in enumerate(panels):
            paste(canvas, fit(panel, tile_width, tile_height), _GAP + k * (tile_width + _GAP), _HEAD)
        paste(canvas, key, width - LEGEND_WIDTH, _HEAD)
        yield canvas


def _write_head(canvas: UInt8, footage: Footage, moment: Moment) -> None:
    right = canvas.shape[1] - _GAP
    when = f"#{moment.index}  {moment.seconds:.2f} s"
    write_text(canvas, when, (right, 18), colour=FAINT, right=True)
    write_text(canvas, shortened(footage.clip.id, right - 150), (_GAP, 18))
