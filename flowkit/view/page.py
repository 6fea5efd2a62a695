"""A report of a whole store as one self-contained HTML file.

The page's template, style and script are in `templates/`; the store's facts go in as JSON, thumbnails
as blocks of base64 that a browser does not parse before they are shown. The script inserts every
text as text: ids and labels may hold anything.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flowkit import html
from flowkit.distribution import Distribution
from flowkit.store.read.store import Store
from flowkit.view.motion import EDGES_PX, STATIC_PX, WIDE_PX, Motion
from flowkit.view.summary import SummaryConfig, VideoSummary

NEARLY_STATIC = 0.98

_THUMBNAILS_PER_BLOCK = 50
_TIMELINE_POINTS = 60
_TIMELINE_OCTAVES = 9  # from 1/8 px to 64 px
_LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PAGE = html.Page(
    template="flowkit.view/page.html", styles=("flowkit.view/page.css",), script="flowkit.view/page.js"
)

# Columns for the cards and filters of each video; the rest is in its `facts`.
_COLUMNS = (
    "id label width height n_frames n_flow seconds status clipped_fraction mean_px median_px p95_px max_px "
    "static_fraction wide_fraction cuts histogram timeline problem facts"
).split()
_FACTS = (
    "status_reason fps source_width source_height rotation mirrored pixel_aspect interlaced skipped_frames "
    "pts_repaired flow_max_px backend device opencv_version deviations source_name source_bytes "
    "start_seconds end_seconds"
).split()


def write_page(
    path: Path | str,
    store: Store,
    summaries: Iterable[VideoSummary],
    *,
    speeds: Distribution,
    config: SummaryConfig,
) -> int:
    """Write the report of a store.

    Parameters
    ----------
    path
        The file; it appears whole or not at all, and replaces one that is there.
    store
        The store.
    summaries
        One for each video, in any order.
    speeds
        Distribution of |flow| over all of them.
    config
        Settings of the summaries.

    Returns
    -------
    int
        Bytes of the page.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    order = {video_id: k for k, video_id in enumerate(store)}
    rows = sorted(summaries, key=lambda row: order.get(row.video_id, len(order)))
    context = {
        "title": store.path.name,
        "data": _data(store, rows, speeds, config),
        "thumbnail_blocks": _thumbnail_blocks(rows),
    }
    return html.write_page(Path(path), _PAGE, context)


def _thumbnail_blocks(rows: Sequence[VideoSummary]) -> Iterator[str]:
    for first in range(0, len(rows), _THUMBNAILS_PER_BLOCK):
        some = rows[first : first + _THUMBNAILS_PER_BLOCK]
        yield ",".join(base64.b64encode(row.thumbnail).decode() for row in some)


def _data(
    store: Store, rows: Sequence[VideoSummary], speeds: Distribution, config: SummaryConfig
) -> dict[str, object]:
    info = store.info()
    lost = f"Shards are missing: {', '.join(info.missing_shards)}; their videos are not shown."
    return {
        "made": f"made {info.created} by flowkit {info.flowkit_version}, format {info.format_version}",
        "notice": lost if info.missing_shards else "",
        "tiles": _tiles(store, rows),
        "options": _options(store),
        "edges_px": EDGES_PX,
        "histogram": [round(value, 5) for value in speeds.fractions(EDGES_PX)],
        "motion_note": _motion_note(speeds, config),
        "static_px": STATIC_PX,
        "nearly_static": NEARLY_STATIC,
        "wide_px": WIDE_PX,
        "failures": [[failure.reason, failure.source, failure.detail] for failure in store.failures],
        "thumbnails_per_block": _THUMBNAILS_PER_BLOCK,
        "fact_names": [name.replace("_", " ") for name in _FACTS],
        "columns": _COLUMNS,
        "videos": [_row(row) for row in rows],
    }


def _tiles(store: Store, rows: Sequence[VideoSummary]) -> list[tuple[str, float, str, bool]]:
    """Return the numbers at the top: name, value, unit, whether it is marked."""
    info = store.info()
    truncated = info.per_status.get("truncated", 0)
    unreadable = sum(bool(row.problem) for row in rows)
    tiles = [
        ("videos", info.n_videos, "count", False),
        ("frames", info.n_frames, "count", False),
        ("flow fields", info.n_flow, "count", False),
        ("playing time", sum(_seconds(row) for row in rows), "seconds", False),
        ("size", info.bytes, "bytes", False),
        ("largest flow", info.flow_max_px, "px", False),
        ("failures", info.n_failures, "count", info.n_failures > 0),
        ("truncated", truncated, "count", truncated > 0),
    ]
    return [*tiles, *([("unreadable", unreadable, "count", True)] if unreadable else [])]


def _options(store: Store) -> list[tuple[str, str]]:
    """Return the options of the store, a name and a value each."""
    options, info = store.options, store.info()
    params: list[tuple[str, str]] = []
    for field in options.fields:
        params.append((f"method of {field.name}", field.summary))
        settings = json.loads(field.tvl1_params)
        if field.method != "tvl1":
            versions = {f"version of {name}": text for name, text in settings["versions"].items()}
            settings = settings["params"] | versions
        params += sorted((name, str(value)) for name, value in settings.items())
    bound = f", ±{options.bound_px:g} px" if options.codec.bounded else ""
    quality = f", quality {options.jpeg_quality}" if options.frame_codec == "jpeg" else ""
    return [
        ("flow codec", options.flow_codec + bound),
        ("frames", options.frame_codec + quality),
        ("step", str(options.step)),
        ("resize", options.resize),
        ("sampling", options.sampling),
        ("backends", ", ".join(f"{name} {count}" for name, count in info.per_backend.items())),
        *params,
        ("engine family", options.engine_family),
        ("store's id", info.uuid),
    ]


def _motion_note(speeds: Distribution, config: SummaryConfig) -> str:
    if not speeds.count:
        return "No flow was measured."
    sampled = f" Measured on at most {config.most_fields} fields a video." if config.most_fields else ""
    return (
        f"mean {speeds.mean:.2f} px, median {speeds.quantile(0.5):.2f} px, "
        f"95th percentile {speeds.quantile(0.95):.2f} px; "
        f"{speeds.fractions((STATIC_PX,))[0]:.1%} of all pixels are static (below {STATIC_PX:g} px).{sampled}"
    )


def _row(summary: VideoSummary) -> list[object]:
    record, motion = summary.record, summary.motion
    facts = [_plain(getattr(record, name)) for name in _FACTS] if record else []
    about: dict[str, object] = {
        "id": summary.video_id,
        "label": record.label if record else "",
        "seconds": round(_seconds(summary), 2),
        "problem": summary.problem,
        "facts": facts,
        **{name: getattr(record, name, None) for name in ("width", "height", "n_frames", "n_flow", "status")},
        "clipped_fraction": record.clipped_fraction if record else 0.0,
        **(_motion_columns(motion) if motion else {}),
    }
    return [_plain(about.get(name)) for name in _COLUMNS]


def _motion_columns(motion: Motion) -> dict[str, object]:
    numbers = ("mean_px", "median_px", "p95_px", "max_px", "static_fraction", "wide_fraction")
    return {
        **{name: getattr(motion, name) for name in numbers},
        "cuts": motion.cuts,
        "histogram": [round(1000 * value) for value in motion.histogram],
        "timeline": timeline(motion.field_means_px),
    }


def timeline(means_px: Sequence[float]) -> str:
    """Return mean magnitudes over time as up to 60 letters, of 64 levels logarithmic in px.

    Level 0 is no motion and 63 is 64 px or more: log2(1 + 8 px) of 9.
    """
    parts = np.array_split(np.asarray(means_px, np.float64), min(len(means_px), _TIMELINE_POINTS) or 1)
    octaves = [math.log2(1 + 8 * float(part.mean())) if part.size else 0.0 for part in parts]
    levels = [min(63, round(63 * octave / _TIMELINE_OCTAVES)) for octave in octaves]
    return "".join(_LEVELS[level] for level in levels) if len(means_px) else ""


def _seconds(summary: VideoSummary) -> float:
    record = summary.record
    return record.n_frames / record.fps if record and record.fps > 0 else 0.0


def _plain(value: object) -> object:
    """Return a value for JSON: floats with five digits, None for NaN and infinities."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
