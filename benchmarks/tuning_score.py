"""Score one set of TV-L1 parameters on pairs with true flow, beside cv2's DualTVL1 defaults."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import average_end_point_error
from benchmarks.record import JsonObject
from benchmarks.tuning_pairs import BANDS, TuningPair
from flowkit.tvl1 import cpu
from flowkit.tvl1.opencv import OpenCVSolver
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes

ROUNDING_PX = 0.036
"""Rounding error of the store's i8 codes at their finest (1/8 px / sqrt 12, root mean square).

It is added to both errors before they are compared: on the smoothest scenes both are below it,
and their ratio would depend on the interpolation kernel that the scenes were drawn with.
"""

WORST = 1.04
"""AEE relative to cv2 that `accurate` should exceed on no pair."""

CV2_CACHE = Path(tempfile.gettempdir()) / "flowkit-tuning-cv2.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One pair under one set of parameters.

    Attributes
    ----------
    name, band
        The pair's.
    aee_px, cv2_aee_px
        Average end-point errors, ours and that of cv2's DualTVL1 at its defaults.
    work, cpu
        Pixel-iterations and CPU time, relative to the preset `opencv-cpu` on the same engine.
    """

    name: str
    band: str
    aee_px: float
    cv2_aee_px: float
    work: float
    cpu: float

    @property
    def ratio(self) -> float:
        """Error relative to cv2's, `ROUNDING_PX` added to both."""
        return (self.aee_px + ROUNDING_PX) / (self.cv2_aee_px + ROUNDING_PX)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Geometric means over pairs of `Row.ratio`, work and CPU time.

    `aee` gives each band the same weight; `plain` is the same of AEE / cv2's AEE without
    `ROUNDING_PX`.
    """

    aee: float
    plain: float
    bands: dict[str, float]
    worst: float
    over: int
    work: float
    cpu: float

    def __str__(self) -> str:
        bands = " ".join(f"{name} {value:.3f}" for name, value in self.bands.items())
        return (
            f"AEE {self.aee:.3f} ({bands}; plain {self.plain:.3f}) "
            f"worst {self.worst:.2f}, {self.over} over {WORST}; work {self.work:.2f} CPU {self.cpu:.2f}"
        )


class Scorer:
    """Pairs with the errors and costs of cv2 and `opencv-cpu` on them."""

    def __init__(self, pairs: Sequence[TuningPair]) -> None:
        self.pairs = pairs
        self._yardsticks = [(_cv2_error(pair), *_solve(pair, PRESETS["opencv-cpu"])[1:]) for pair in pairs]
        self._known: dict[TVL1Params, list[Row]] = {}

    def rows(self, params: TVL1Params) -> list[Row]:
        """Return a row for each pair; known parameters are not solved again."""
        if params not in self._known:
            self._known[params] = [self._row(k, params) for k in range(len(self.pairs))]
        return self._known[params]

    def _row(self, k: int, params: TVL1Params) -> Row:
        pair, (cv2_aee, cv2_like_work, cv2_like_seconds) = self.pairs[k], self._yardsticks[k]
        aee, work, seconds = _solve(pair, params)
        return Row(
            name=pair.name,
            band=pair.band,
            aee_px=aee,
            cv2_aee_px=cv2_aee,
            work=work / cv2_like_work,
            cpu=seconds / cv2_like_seconds,
        )


def summarise(rows: Sequence[Row]) -> Summary:
    """Return geometric means over rows."""
    present = [band for band in BANDS if any(row.band == band for row in rows)]
    grouped = {band: [row for row in rows if row.band == band] for band in present}
    bands = {band: geometric_mean(row.ratio for row in group) for band, group in grouped.items()}
    return Summary(
        aee=geometric_mean(bands.values()),
        plain=geometric_mean(
            geometric_mean(row.aee_px / row.cv2_aee_px for row in group) for group in grouped.values()
        ),
        bands=bands,
        worst=max(row.ratio for row in rows),
        over=sum(row.ratio > WORST for row in rows),
        work=geometric_mean(row.work for row in rows),
        cpu=geometric_mean(row.cpu for row in rows),
    )


def excess(rows: Sequence[Row], most: float) -> float:
    """Return the mean of log(ratio / most) over all pairs, counting 0 for those below."""
    return statistics.fmean(max(0.0, math.log(row.ratio / most)) for row in rows)


def loss_accurate(rows: Sequence[Row]) -> float:
    """Least error, twice the pixel-iterations of `opencv-cpu` at most, no pair much worse than cv2."""
    summary = summarise(rows)
    return math.log(summary.aee) + 8 * excess(rows, WORST) + 10 * max(0.0, math.log(summary.work / 2))


def loss_fast(rows: Sequence[Row]) -> float:
    """Least CPU time at cv2's error in each band, hardly a pair over 10 % worse; error counts a little."""
    summary = summarise(rows)
    shortfall = sum(max(0.0, math.log(ratio)) for ratio in summary.bands.values())
    return math.log(summary.cpu) + 0.5 * math.log(summary.aee) + 20 * shortfall + 10 * excess(rows, 1.1)


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def _solve(pair: TuningPair, params: TVL1Params) -> tuple[float, float, float]:
    """Return AEE in px, pixel-iterations and CPU seconds."""
    solver = cpu.load(params)
    start = time.thread_time()
    flow, counts = solver.flow_and_iterations(pair.frames, [[0, 1]])
    seconds = time.thread_time() - start
    height, width = pair.frames.shape[1:]
    areas = [h * w for h, w in level_sizes((height, width), params)][::-1]
    work = float(np.dot(counts[0].sum(axis=1), areas))
    return average_end_point_error(flow[0], pair.true), work, seconds


@functools.cache
def _cv2_cache() -> JsonObject:
    found: JsonObject = json.loads(CV2_CACHE.read_text()) if CV2_CACHE.exists() else {}
    return found


def _cv2_error(pair: TuningPair) -> float:
    """Return the AEE of cv2's DualTVL1 at its defaults, px; kept from run to run."""
    content = cv2.__version__.encode() + pair.frames.tobytes() + pair.true.tobytes()
    key, cache = hashlib.sha256(content).hexdigest(), _cv2_cache()
    if key not in cache:
        flow = OpenCVSolver(params=PRESETS["opencv-cpu"]).flow_batch(pair.frames, [[0, 1]])[0]
        cache[key] = average_end_point_error(flow, pair.true)
        CV2_CACHE.write_text(json.dumps(cache))
    return float(cache[key])
