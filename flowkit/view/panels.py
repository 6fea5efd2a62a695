"""Images put together of panels: rows, strips, films and comparisons of flow, each with its legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flowkit.comparison.sources import FlowSource, StoreSource
from flowkit.comparison.stores import CompareConfig, Comparison, VideoDifference, open_pair
from flowkit.errors import FlowkitError
from flowkit.typing import Flow, UInt8
from flowkit.view.canvas import (
    FAINT,
    blank,
    file_name,
    fit,
    paste,
    shortened,
    text_width,
    write_image,
    write_text,
)
from flowkit.view.footage import Footage
from flowkit.view.wheel import (
    LEGEND_WIDTH,
    fitting_scale,
    flow_to_rgb,
    legend,
    magnitude_to_rgb,
    per_step,
    ramp,
)

Panel = tuple[str, UInt8]
"""A name and an image, uint8 (H, W, 3) RGB."""

_GAP = 6
_ROW_HEAD = 50
_STRIP_HEAD = 34
_CAPTION = 20


def draw_row(
    panels: Sequence[Panel],
    *,
    title: str,
    note: str = "",
    max_px: float,
    unit: str = "px/frame",
    tile_width: int = 320,
) -> UInt8:
    """Draw images of one size side by side, with the legend.

    Parameters
    ----------
    panels
        Names and images, at least one.
    title, note
        Text above them on the left and on the right.
    max_px, unit
        Scale of the flow among them, for the legend.
    tile_width
        Width of each image, px.

    Returns
    -------
    uint8 array (H, W, 3), RGB
        Both sides even, as video codecs need them.
    """
    source_height, source_width = panels[0][1].shape[:2]
    tile_height = max(1, round(source_height * tile_width / source_width))
    key = legend(tile_height, max_px=max_px, unit=unit)
    left = _GAP + len(panels) * (tile_width + _GAP)
    height, width = _ROW_HEAD + max(tile_height, len(key)) + _GAP, left + LEGEND_WIDTH
    canvas = blank(height + height % 2, width + width % 2)
    write_text(canvas, note, (width - _GAP, 20), colour=FAINT, right=True)
    room = width - 4 * _GAP - text_width(note)
    write_text(canvas, shortened(title, room, size=11), (_GAP, 20), size=11)
    for k, (name, image) in enumerate(panels):
        x = _GAP + k * (tile_width + _GAP)
        write_text(canvas, shortened(name, tile_width), (x, _ROW_HEAD - 8), colour=FAINT)
        paste(canvas, fit(image, tile_width, tile_height), x, _ROW_HEAD)
    paste(canvas, key, left, _ROW_HEAD)
    return canvas


def flow_panels(frame: UInt8 | None, flow: Flow, *, max_px: float) -> list[Panel]:
    """Return the panels of one flow field: its frame if there is one, the flow, its magnitude."""
    return [
        *([("frame", frame)] if frame is not None else []),
        ("flow", flow_to_rgb(flow, max_px=max_px)),
        ("magnitude", magnitude_to_rgb(flow, max_px=max_px)),
    ]


def film(footage: Footage, indices: Sequence[int], *, tile_width: int = 320) -> Iterator[UInt8]:
    """Yield one image a flow field: frame (if kept), flow and magnitude side by side, with the legend.

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
    for sample in footage.samples(indices):
        yield draw_row(
            flow_panels(sample.frame, sample.flow, max_px=footage.max_px),
            title=footage.clip.id,
            note=f"#{sample.index}  {sample.seconds:.2f} s",
            max_px=footage.max_px,
            unit=per_step(footage.step),
            tile_width=tile_width,
        )


def strip(footage: Footage, *, columns: int = 6, tile_width: int = 240) -> UInt8:
    """Draw a video as one image: flow fields from left to right.

    Parameters
    ----------
    footage
        The video and its scale.
    columns
        Number of fields, evenly spread; all where there are fewer.
    tile_width
        Width of each panel, px.

    Returns
    -------
    uint8 array (H, W, 3), RGB
        A title, a row of frames where the store keeps them, rows of flow and of its magnitude,
        and the legend.
    """
    indices = footage.spread(columns)
    clip = footage.clip
    tile_height = max(1, round(clip.height * tile_width / clip.width))
    rows = 3 if footage.has_frames else 2
    height = rows * (tile_height + _GAP) - _GAP
    wide = len(indices) * (tile_width + _GAP)
    key = legend(height, max_px=footage.max_px, unit=per_step(footage.step))
    canvas = blank(_STRIP_HEAD + _CAPTION + max(height, len(key)) + 2 * _GAP, _GAP + wide + LEGEND_WIDTH)
    _write_strip_title(canvas, footage)
    top = _STRIP_HEAD + _CAPTION
    # One sample at a time: of a large video each takes ten times the canvas.
    for column, sample in enumerate(footage.samples(indices)):
        x = _GAP + column * (tile_width + _GAP)
        text = shortened(f"#{sample.index}  {sample.seconds:.2f} s", tile_width, size=8)
        write_text(canvas, text, (x, top - 7), size=8, colour=FAINT)
        for row, (_, image) in enumerate(flow_panels(sample.frame, sample.flow, max_px=footage.max_px)):
            tile = fit(image, tile_width, tile_height)
            paste(canvas, tile, x, top + row * (tile_height + _GAP))
    paste(canvas, key, _GAP + wide, top)
    return canvas


def _write_strip_title(canvas: UInt8, footage: Footage) -> None:
    clip = footage.clip
    facts = f"{clip.width}x{clip.height}, {clip.n_frames} frames"
    label = f", label {clip.label}" if clip.label else ""
    room = canvas.shape[1] - 2 * _GAP
    write_text(canvas, shortened(f"{clip.id}   {facts}{label}", room, size=11), (_GAP, 24), size=11)


def contrast(a: Flow, b: Flow, *, title: str, frame: UInt8 | None = None) -> UInt8:
    """Draw two flow fields and the map of their end-point error.

    Parameters
    ----------
    a, b
        float32 (2, H, W) of one size, px; NaN where unknown.
    title
        Names of the two, for the head.
    frame
        uint8 (H, W, 3) RGB: the frame they lead from, if there is one.

    Returns
    -------
    uint8 array, RGB
        The frame, both fields on one scale, the error from 0 (dark) to its own scale, the legend.
    """
    scale = fitting_scale(np.stack([np.hypot(*a), np.hypot(*b)]))
    errors = np.hypot(*(a - b))
    reach = fitting_scale(errors)
    fractions = np.nan_to_num(errors / np.float32(reach), nan=0.0)
    panels = [
        ("a", flow_to_rgb(a, max_px=scale)),
        ("b", flow_to_rgb(b, max_px=scale)),
        (f"|a - b|, 0 to {reach:g} px", ramp(fractions)),
    ]
    if frame is not None:
        panels.insert(0, ("frame", frame))
    return draw_row(panels, title=title, max_px=scale, unit="px")


def write_worst(
    folder: Path, config: CompareConfig, comparison: Comparison, *, most: int = 10
) -> Iterator[Path]:
    """Write an image of the worst field of each of the worst videos, the worst first.

    Parameters
    ----------
    folder
        The folder for them; made if absent.
    config, comparison
        The comparison's settings and result.
    most
        Largest number of videos.

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
        write_image(path, _worst_field(a, b, video))
        yield path


def _worst_field(a: FlowSource, b: FlowSource, video: VideoDifference) -> UInt8:
    k = video.worst_field
    title = f"{video.video_id}  #{k}   mean EPE {video.worst_epe_px:.3f} px"
    frame = _frame(a, video.video_id, k)
    frame = _frame(b, video.partner, k) if frame is None else frame
    return contrast(a.flow(video.video_id, k), b.flow(video.partner, k), title=title, frame=frame)


def _frame(source: FlowSource, video_id: str, index: int) -> UInt8 | None:
    try:
        return source.frame(video_id, index) if isinstance(source, StoreSource) else None
    except FlowkitError:
        return None  # a damaged frame must not hide the flow
