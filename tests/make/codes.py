"""Flow as the codes of the rules that flow codecs use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP, QUANTILE_SCALE
from flowkit.tvl1.engine import FlowCodes


def flow_field(px: float) -> NDArray[np.float32]:
    """Return noise of this standard deviation, float32 (2, 30, 40)."""
    return np.random.default_rng(0).normal(0, px, (2, 30, 40)).astype(np.float32)


def field_codes(flow: NDArray[np.float32], quantizer: Quantizer = FIELD_SCALE) -> tuple[NDArray[Any], float]:
    """Return codes of a field and their scale."""
    made = quantizer.quantize(flow)
    return made.codes, made.scale


def rules(bound_px: float) -> dict[str, Quantizer]:
    """Return a rule of each kind, by the name of its codes."""
    return {"q8": QUANTILE_SCALE, "i8": FIELD_SCALE, "i16": FIXED_STEP, "u8": BoundedRange(bound_px=bound_px)}


def extreme_flows(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Flows of which some need a quantile and some none, with ties and the edges of the rule among them."""
    n = 2 * size[0] * size[1]
    edge = np.float32(127 / 8)
    ramp = rng.permutation(np.linspace(-90, 90, n))
    kinds = {
        "zeros": np.zeros(n),
        "all equal, large": np.full(n, -40.0),
        "all equal, at the edge": np.full(n, edge),
        "one beyond the edge": np.r_[np.nextafter(edge, np.float32(99)), np.full(n - 1, edge)],
        "one huge outlier": np.r_[3e38, rng.normal(0, 2, n - 1)],
        "the most outliers that saturate": np.r_[np.full(n // 1000, 500.0), np.full(n - n // 1000, 20.0)],
        "one more": np.r_[np.full(n // 1000 + 1, 500.0), np.full(n - n // 1000 - 1, 20.0)],
        "half outliers": np.r_[np.full(n // 2, -3000.0), rng.normal(0, 2, n - n // 2)],
        "a ramp": ramp,
        "a wide ramp": ramp * np.exp(rng.normal(0, 8, n)),
        "integers": np.round(ramp),
        "at the least quantile": np.r_[np.full(n // 1000 + 1, 15.625), 99.0, np.zeros(n - n // 1000 - 2)],
    }
    return np.stack(list(kinds.values())).astype(np.float32).reshape(-1, 2, *size)


def check_equal(made: FlowCodes, flow: NDArray[np.float32], quantizer: Quantizer) -> None:
    """Hold codes, scales, largest components and numbers clipped to the host's, bit for bit."""
    for field, px in zip(made.fields(), flow, strict=True):
        expected = quantizer.quantize(px)
        assert field[1:] == expected[1:]
        assert field.codes.dtype == expected.codes.dtype
        np.testing.assert_array_equal(field.codes, expected.codes)
