from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit.distribution import RELATIVE_ERROR, Distribution, spread
from flowkit.errors import InvalidParameterError

VALUES = arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 1e6, width=32))


def filled(*parts: NDArray[np.float32]) -> Distribution:
    distribution = Distribution()
    for part in parts:
        distribution.add(part)
    return distribution


def test_spread_keeps_the_ends_and_never_repeats() -> None:
    assert spread(range(10), 3) == [0, 4, 9]
    assert spread(range(5, 8), 9) == [5, 6, 7]
    assert spread(range(9), 1) == [4]
    assert len(set(spread(range(1000), 999))) == 999
    with pytest.raises(InvalidParameterError):
        spread(range(3), 0)


@given(VALUES, st.floats(0, 1))
def test_quantiles_are_those_of_the_values(values: NDArray[np.float32], q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    found = filled(values).quantile(q)
    # Denormals share bins with zero: 2^-117 px and below.
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR, abs=1e-35)


@given(VALUES, VALUES)
def test_merging_is_adding(first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    both, merged = filled(first, second), filled(first).merge(filled(second))
    assert (merged.count, merged.max) == (both.count, both.max)
    assert merged.mean == pytest.approx(both.mean, rel=1e-12)
    assert merged.quantile(0.5) == both.quantile(0.5)


@given(VALUES)
def test_fractions_at_powers_of_two_are_exact(values: NDArray[np.float32]) -> None:
    fractions = filled(values).fractions((0.125, 1.0, 64.0))
    expected = np.histogram(values, [0, 0.125, 1, 64, np.inf])[0] / len(values)
    assert fractions == pytest.approx(tuple(expected), abs=1e-12)


def test_mean_max_and_count_are_exact() -> None:
    found = filled(np.array([[0, 1], [2, 5]], np.float32))
    assert (found.count, found.mean, found.max) == (4, 2.0, 5.0)


def test_negative_zero_counts_as_zero() -> None:
    assert filled(np.array([-0.0, 0.0], np.float32)).fractions((0.125,)) == (1.0, 0.0)


def test_nothing_has_no_mean_and_no_quantile() -> None:
    empty = filled(np.zeros(0, np.float32))
    assert (empty.count, empty.max) == (0, 0.0)
    assert math.isnan(empty.mean)
    assert math.isnan(empty.quantile(0.5))
    assert empty.fractions((1.0,)) == (0.0, 0.0)
