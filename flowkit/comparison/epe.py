"""Comparison of two flow fields: end-point error of each pixel, and changed codes.

Source: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 92, 2011,
section 4.1, for the end-point error.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from flowkit.distribution import Distribution
from flowkit.errors import InputError
from flowkit.store.codecs import DEFAULT_FLOW_CODEC, flow_codec
from flowkit.typing import Flow


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """End-point errors |a - b| over some pixels, px, and the codes that they change.

    Quantiles are exact to 1/512 of their value. Pixels unknown on either side do not count.
    """

    n_fields: int
    n_pixels: int
    epe_mean_px: float
    epe_median_px: float
    epe_p95_px: float
    epe_max_px: float
    codes_changed: float
    """Fraction of the flow components whose code in the default codec differs, on the grid of a's field."""
    n_unknown: int = 0
    """Pixels that are unknown on either side, and left out."""


class Tally:
    """Sums of the errors of several fields."""

    def __init__(self) -> None:
        self.errors = Distribution()
        self._fields = 0
        self._changed = 0
        self._unknown = 0

    def add(self, a: Flow, b: Flow) -> float:
        """Compare two fields, float32 (2, H, W); return their mean error, px, NaN of no known pixel.

        Raises
        ------
        InputError
            They differ in size.
        """
        if a.shape != b.shape:
            raise InputError(f"the sizes differ: {a.shape[2]}x{a.shape[1]} and {b.shape[2]}x{b.shape[1]}")
        apart = np.square(a - b)
        errors = np.sqrt(apart[0] + apart[1])
        known = np.isfinite(errors)
        if not known.all():
            self._unknown += int(known.size - np.count_nonzero(known))
            a, b, errors = a[:, known], b[:, known], errors[known]
        self.errors.add(errors)
        self._fields += 1
        self._changed += codes_changed(a, b)
        return float(errors.mean(dtype=np.float64)) if errors.size else math.nan

    def merge(self, other: Tally) -> None:
        """Add the errors of another tally."""
        self.errors.merge(other.errors)
        self._fields += other._fields
        self._changed += other._changed
        self._unknown += other._unknown

    def difference(self) -> Difference:
        """Return the sums as numbers; NaN where there is no pixel."""
        errors = self.errors
        return Difference(
            n_fields=self._fields,
            n_pixels=errors.count,
            epe_mean_px=errors.mean,
            epe_median_px=errors.quantile(0.5),
            epe_p95_px=errors.quantile(0.95),
            epe_max_px=errors.max if errors.count else math.nan,
            codes_changed=self._changed / (2 * errors.count) if errors.count else math.nan,
            n_unknown=self._unknown,
        )


def codes_changed(a: Flow, b: Flow) -> int:
    """Count the components whose codes in the default codec differ between two fields of finite flow.

    Parameters
    ----------
    a, b
        float32 (2, ...), px.

    Notes
    -----
    Both are put on the grid of a's field, 1/8 px or coarser. Flow read from a store of that codec is
    on that very grid, so that its stored codes are compared.
    """
    per_px = np.float32(1) / np.float32(flow_codec(DEFAULT_FLOW_CODEC).quantizer.quantize(a).scale)
    return int(np.count_nonzero(np.rint(a * per_px) != np.rint(b * per_px)))
