"""A video beside its flow, picture by picture, for a GIF or MP4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.view.legend import per_step
from flowkit.view.moment import Footage
from flowkit.view.row import draw_row, flow_panels


def film(footage: Footage, indices: Sequence[int], *, tile_width: int = 320) -> Iterator[NDArray[np.uint8]]:
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
    for moment in footage.moments(indices):
        yield draw_row(
            flow_panels(moment.frame, moment.flow, max_px=footage.max_px),
            title=footage.clip.id,
            note=f"#{moment.index}  {moment.seconds:.2f} s",
            max_px=footage.max_px,
            unit=per_step(footage.step),
            tile_width=tile_width,
        )
