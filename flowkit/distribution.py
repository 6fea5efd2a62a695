"""Statistics of magnitudes: evenly spread samples; means and quantiles in fixed memory.

The bits of a float32 that is not negative rise with its value, so its leading 17 bits are a bin:
1/512 of the value wide, whatever the value. Counts of bins add up over videos and processes.
"""

from __future__ import annotations

import itertools
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowkit.validate import check_at_least

_SHIFT = 14  # keeps 8 bits of exponent and 9 of mantissa
_BINS = (0x7F80_0000 >> _SHIFT) + 1

RELATIVE_ERROR = 2.0**-9
"""Of a quantile: a bin's width relative to its values."""


def spread(among: range, count: int) -> list[int]:
    """Return `count` numbers of a range, evenly spread with its ends, or all where there are no more."""
    check_at_least("count", count, 1)
    if count >= len(among):
        return list(among)
    if count == 1:
        return [among[len(among) // 2]]
    return [among[round(k * (len(among) - 1) / (count - 1))] for k in range(count)]


class Distribution:
    """Histogram of magnitudes, of any number, in fixed memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._sum = 0.0
        self.max = 0.0

    @property
    def count(self) -> int:
        """Number of values added."""
        return int(self._counts.sum())

    @property
    def mean(self) -> float:
        """Mean of the values, exact but for rounding; NaN of none."""
        count = self.count
        return self._sum / count if count else float("nan")

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite values >= 0, float32 of any shape."""
        if not values.size:
            return
        flat = np.ascontiguousarray(values, np.float32).ravel()
        bits = flat.view(np.uint32) & np.uint32(0x7FFF_FFFF)  # -0.0 is 0
        counts = np.bincount((bits >> np.uint32(_SHIFT)).astype(np.int64))
        self._counts[: len(counts)] += counts
        self._sum += float(flat.sum(dtype=np.float64))
        self.max = max(self.max, float(flat.max()))

    def merge(self, other: Distribution) -> Self:
        """Add the counts of another one."""
        self._counts += other._counts
        self._sum += other._sum
        self.max = max(self.max, other.max)
        return self

    def quantile(self, q: float) -> float:
        """Return the least value that the fraction `q` of all do not exceed; NaN of none.

        Its relative error is at most RELATIVE_ERROR.
        """
        counts = np.cumsum(self._counts)
        if not counts[-1]:
            return float("nan")
        rank = max(1, int(np.ceil(q * counts[-1])))
        found = int(np.searchsorted(counts, rank))
        return min(self.max, _edge(found))

    def fractions(self, edges: tuple[float, ...]) -> tuple[float, ...]:
        """Return the fractions of values below the first edge, between edges, and from the last edge on.

        Edges must rise; they are met exactly if they are powers of two or multiples of one with up to
        9 bits, otherwise within RELATIVE_ERROR.
        """
        bounds = [0, *(int(np.float32(edge).view(np.uint32)) >> _SHIFT for edge in edges), _BINS]
        count = max(1, self.count)
        return tuple(float(self._counts[low:high].sum()) / count for low, high in itertools.pairwise(bounds))


def _edge(index: int) -> float:
    """Return the lowest value of a bin."""
    return float(np.uint32(index << _SHIFT).view(np.float32))
