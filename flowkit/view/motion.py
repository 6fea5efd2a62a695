"""The motion of a video in a few numbers: magnitudes of its flow, stillness, cuts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.distribution import Distribution, spread
from flowkit.store.read.store import Clip

EDGES_PX = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Edges between the bars of the histogram of |flow|, px."""

STATIC_PX = 0.1875
"""|flow| below which a pixel is static: up to one code of the default codec, 1/8 px, in u and in v."""

WIDE_PX = 20.0
"""The bound of TSN's and denseflow's codes, which clip larger components."""

# A cut: a field that moves this many times as much as the few before and the few after it do, and
# as the very next ones, and at least this fraction of the image's width.
_CUT_RATIO = 4.0
_CUT_BESIDE_RATIO = 2.0
_CUT_WIDTHS = 0.01
_CUT_NEIGHBOURS = 5
_BATCH = 2  # larger ones leave the cache and are slower


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """The motion of a video; magnitudes |flow| in px per step."""

    n_fields: int
    """Number of fields measured."""
    mean_px: float
    median_px: float
    p95_px: float
    max_px: float
    histogram: tuple[float, ...]
    """Fractions of pixels between `EDGES_PX`: below the first, between, from the last on."""
    static_fraction: float
    """Fraction of pixels that move less than `STATIC_PX`."""
    wide_fraction: float
    """Fraction of the components of flow beyond `WIDE_PX`."""
    field_means_px: tuple[float, ...]
    """Mean |flow| of each field measured."""
    fields: tuple[int, ...]
    """Indices of these fields."""
    cuts: tuple[int, ...] | None
    """Fields that lead over a shot cut; None if not every field was measured."""


def measure_motion(
    clip: Clip, *, field: str = "flow", step: int = 1, most_fields: int | None = None
) -> tuple[Motion, Distribution]:
    """Measure the motion of a video, and the distribution of |flow| for sums over videos.

    Parameters
    ----------
    clip
        The video.
    field
        Name of its flow field.
    step
        Frames from the first to the second of a pair: a cut spoils this many fields.
    most_fields
        Measure so many, evenly spread, without cuts; None: all.

    Raises
    ------
    StoreCorruptError
        A stored field fails its CRC.
    """
    everything = range(clip.n_flow)
    fields = spread(everything, most_fields) if most_fields and clip.n_flow else list(everything)
    speeds, wide, means = Distribution(), 0, []
    for first, stop in _runs(fields):
        flow = clip.flow(first, stop, field=field)
        speed = np.sqrt(np.square(flow[:, 0]) + np.square(flow[:, 1]))
        speeds.add(speed)
        means += speed.mean(axis=(1, 2), dtype=np.float64).tolist()
        wide += _beyond(flow, speed)
    complete = len(fields) == clip.n_flow
    motion = Motion(
        n_fields=len(fields),
        mean_px=speeds.mean if fields else 0.0,
        median_px=speeds.quantile(0.5) if fields else 0.0,
        p95_px=speeds.quantile(0.95) if fields else 0.0,
        max_px=speeds.max,
        histogram=speeds.fractions(EDGES_PX),
        static_fraction=speeds.fractions((STATIC_PX,))[0],
        wide_fraction=wide / max(1, 2 * speeds.count),
        field_means_px=tuple(means),
        fields=tuple(fields),
        cuts=find_cuts(means, width=clip.width, step=step) if complete else None,
    )
    return motion, speeds


def find_cuts(means_px: Sequence[float], *, width: int, step: int = 1) -> tuple[int, ...]:
    """Return the fields with sudden large flow, as of a shot cut; of each cut the largest.

    Parameters
    ----------
    means_px
        Mean |flow| of each field in turn, px.
    width
        Of the image, px.
    step
        Number of consecutive fields that lead over one cut.

    Notes
    -----
    There is no flow between two scenes: a solver's result there is large and lasts for `step` fields,
    while a fast movement grows and fades. So a field counts that exceeds the medians of the
    fields before and after by far, and its nearest neighbours too. Near the ends of a video one side is
    missing and nothing is called a cut.
    """
    means = np.asarray(means_px, np.float64)
    cuts: list[int] = []
    for k in np.flatnonzero(means >= _CUT_WIDTHS * width).tolist():
        around = means[max(0, k - step + 1) : k + step]
        before = means[max(0, k - step + 1 - _CUT_NEIGHBOURS) : max(0, k - step + 1)]
        after = means[k + step : k + step + _CUT_NEIGHBOURS]
        is_peak = means[k] == around.max() and not (cuts and k - cuts[-1] < step)
        if is_peak and before.size and after.size:
            calm = max(np.median(before), np.median(after))
            beside = max(before[-1], after[0])
            if means[k] >= _CUT_RATIO * calm and means[k] >= _CUT_BESIDE_RATIO * beside:
                cuts.append(k)
    return tuple(cuts)


def _beyond(flow: NDArray[np.float32], speed: NDArray[np.float32]) -> int:
    # Rare, so that the magnitudes decide whether the components are tested.
    return int(np.count_nonzero(np.abs(flow) > WIDE_PX)) if float(speed.max(initial=0.0)) > WIDE_PX else 0


def _runs(fields: Sequence[int]) -> list[tuple[int, int]]:
    """Return the fields as ranges [first, stop) of up to `_BATCH`."""
    runs: list[tuple[int, int]] = []
    for k in fields:
        if runs and runs[-1][1] == k and k - runs[-1][0] < _BATCH:
            runs[-1] = (runs[-1][0], k + 1)
        else:
            runs.append((k, k + 1))
    return runs
