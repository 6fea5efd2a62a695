"""Flow as the codes of the rules that flow codecs use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP, QUANTILE_SCALE


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
