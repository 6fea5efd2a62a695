"""Flow as the codes of the rules that flow codecs use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP


def field_codes(flow: NDArray[np.float32]) -> tuple[NDArray[Any], float]:
    """Return int8 codes of a field and their scale."""
    made = FIELD_SCALE.quantize(flow)
    return made.codes, FIELD_SCALE.scale_px(made.largest_px)


def rules(bound_px: float) -> dict[str, Quantizer]:
    """Return a rule of each kind, by the name of its codes."""
    return {"i8": FIELD_SCALE, "i16": FIXED_STEP, "u8": BoundedRange(bound_px=bound_px)}
