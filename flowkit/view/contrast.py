"""Two flow fields of one moment side by side, with the map of their end-point error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowkit.comparison.sources import FlowSource, StoreSource
from flowkit.comparison.stores import CompareConfig, Comparison, VideoDifference, open_pair
from flowkit.errors import FlowkitError
from flowkit.typing import Flow, UInt8
from flowkit.view.picture import file_name, write_picture
from flowkit.view.row import draw_row
from flowkit.view.wheel import fitting_scale, flow_to_rgb, ramp


def contrast(a: Flow, b: Flow, *, title: str, frame: UInt8 | None = None) -> UInt8:
    """Draw two flow fields and where they differ.

    Parameters
    ----------
    a, b
        float32 (2, H, W) of one size, px; NaN where unknown.
    title
        What they are.
    frame
        uint8 (H, W, 3) RGB: the picture they lead from, if there is one.

    Returns
    -------
    uint8 array, RGB
        The frame, both fields on one scale, the error from 0 (dark) to its own scale, the legend.
    """
    scale = fitting_scale(np.stack([np.hypot(*a), np.hypot(*b)]))
    errors = np.hypot(*(a - b))
    reach = fitting_scale(errors)
    shares = np.nan_to_num(errors / np.float32(reach), nan=0.0)
    panels = [
        ("a", flow_to_rgb(a, max_px=scale)),
        ("b", flow_to_rgb(b, max_px=scale)),
        (f"|a - b|, 0 to {reach:g} px", ramp(shares)),
    ]
    if frame is not None:
        panels.insert(0, ("frame", frame))
    return draw_row(panels, title=title, max_px=scale, unit="px")


def write_worst(
    folder: Path, config: CompareConfig, comparison: Comparison, *, most: int = 10
) -> Iterator[Path]:
    """Write a picture of the worst field of each of the worst videos, the worst first.

    Parameters
    ----------
    folder
        Where they go; it is made.
    config, comparison
        What was compared, and what came of it.
    most
        Videos pictured.

    Yields
    ------
    Path
        Each file: `<rank>_<video>_<field>.png`.
    """
    found = [video for video in comparison.videos if video.worst_field >= 0]
    worst = sorted(found, key=lambda video: -video.worst_epe_px)[:most]
    folder.mkdir(parents=True, exist_ok=True)
    a, b = open_pair(config)
    for rank, video in enumerate(worst, start=1):
        path = folder / f"{rank:02d}_{file_name(video.video_id)}_{video.worst_field:05d}.png"
        write_picture(path, _picture(a, b, video))
        yield path


def _picture(a: FlowSource, b: FlowSource, video: VideoDifference) -> UInt8:
    k = video.worst_field
    title = f"{video.video_id}  #{k}   mean EPE {video.worst_epe_px:.3f} px"
    frame = _frame(a, video.video_id, k)
    frame = _frame(b, video.partner, k) if frame is None else frame
    return contrast(a.flow(video.video_id, k), b.flow(video.partner, k), title=title, frame=frame)


def _frame(source: FlowSource, video_id: str, index: int) -> UInt8 | None:
    try:
        return source.frame(video_id, index) if isinstance(source, StoreSource) else None
    except FlowkitError:
        return None  # a damaged frame must not hide the flow that is to be looked at
