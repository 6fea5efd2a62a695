from __future__ import annotations

import math

import numpy as np
import pytest

from flowkit.comparison.epe import Tally, codes_changed
from flowkit.errors import InputError
from flowkit.store.codecs import DEFAULT_FLOW_CODEC, flow_codec
from tests.make import stores
from tests.make.codes import field_codes


def test_equal_fields_are_no_apart() -> None:
    tally = Tally()
    flow = stores.noise(1, 0)[0]
    assert tally.add(flow, flow.copy()) == 0
    found = tally.difference()
    assert (found.n_fields, found.n_pixels) == (1, 240)
    assert (found.epe_mean_px, found.epe_median_px, found.epe_p95_px, found.epe_max_px) == (0, 0, 0, 0)
    assert found.codes_changed == 0


def test_a_constant_offset_is_the_error_everywhere() -> None:
    tally = Tally()
    assert tally.add(stores.steady(1, 1, 1)[0], stores.steady(1, 4, 5)[0]) == 5
    found = tally.difference()
    assert (found.epe_mean_px, found.epe_median_px, found.epe_p95_px, found.epe_max_px) == (5, 5, 5, 5)
    assert found.codes_changed == 1


def test_quantiles_are_those_of_all_pixels_of_all_fields() -> None:
    a, b = stores.noise(5, 1), stores.noise(5, 2)
    tally, other = Tally(), Tally()
    for k in range(5):
        (tally if k < 3 else other).add(a[k], b[k])
    tally.merge(other)
    errors = np.hypot(*(a - b).transpose(1, 0, 2, 3))
    found = tally.difference()
    assert (found.n_fields, found.n_pixels) == (5, errors.size)
    assert found.epe_mean_px == pytest.approx(float(errors.mean()), rel=1e-5)
    # within 1/512 of the value
    assert found.epe_median_px == pytest.approx(float(np.median(errors)), rel=1 / 256)
    assert found.epe_p95_px == pytest.approx(float(np.quantile(errors, 0.95)), rel=1 / 256)


def test_unknown_pixels_of_either_side_do_not_count() -> None:
    a, b = stores.steady(1, 0, 0)[0], stores.steady(1, 3, 4)[0]
    a[:, 0, :10] = np.nan
    b[0, 1, :10] = np.nan
    tally = Tally()
    assert tally.add(a, b) == 5
    assert tally.difference().n_pixels == 240 - 20


def test_field_without_a_known_pixel_has_no_error() -> None:
    tally = Tally()
    assert math.isnan(tally.add(stores.steady(1, math.nan, 0)[0], stores.steady(1, 0, 0)[0]))
    found = tally.difference()
    assert (found.n_fields, found.n_pixels) == (1, 0)
    assert math.isnan(found.epe_mean_px)
    assert math.isnan(found.codes_changed)


def test_fields_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="20x12 and 12x20"):
        Tally().add(stores.steady(1, 0, 0)[0], stores.steady(1, 0, 0, height=20, width=12)[0])


@pytest.mark.parametrize("sigma_px", [0.5, 4.0, 40.0])
def test_codes_counted_are_the_stored_ones(sigma_px: float) -> None:
    flow = stores.noise(1, 3, sigma_px=sigma_px)[0]
    codes, scale = field_codes(flow, flow_codec(DEFAULT_FLOW_CODEC).quantizer)
    other = codes.copy()
    other.flat[::7] ^= 1  # one code up or down, never -128
    stored, changed = codes * np.float32(scale), other * np.float32(scale)
    assert codes_changed(stored, changed) == np.count_nonzero(codes != other)


def test_less_than_half_a_code_changes_nothing() -> None:
    a = stores.steady(1, 1.0, 2.0)[0]
    assert codes_changed(a, a + np.float32(0.06)) == 0
    assert codes_changed(a, a + np.float32(0.07)) == a.size
