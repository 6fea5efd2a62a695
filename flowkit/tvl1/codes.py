"""Many flows as the integer codes of `flowkit.quantize`, as engines hand them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import check_bound, i8_scale
from flowkit.validate import check_choice

Code = Literal["i8", "i16", "u8"]

CODE_DTYPES = {"i8": np.int8, "i16": np.int16, "u8": np.uint8}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowCodes:
    """The codes of many flows, and what belongs to each.

    Attributes
    ----------
    codes : int8, int16 or uint8 array, (m, 2, H, W)
        As `flowkit.quantize` makes them; u, then v.
    largest_px : float32 array, (m,)
        Largest absolute component of each flow, px.
    clipped : int32 array, (m,)
        Components of each flow that the code cannot hold; never any with `i8`.
    seconds : mapping
        Seconds that each stage took, all pairs together; only stages that the engine can tell
        apart. "upload", "solve" and "download" of batches that a GPU has in work side by side
        overlap.
    """

    codes: NDArray[Any]
    largest_px: NDArray[np.float32]
    clipped: NDArray[np.int32]
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def i8_scales(self) -> NDArray[np.float32]:
        """The scale of each flow's `i8` codes: px = codes * scale."""
        return np.array([i8_scale(float(px)) for px in self.largest_px], np.float32)


def check_code(code: str, bound_px: float | None) -> None:
    """Raise InvalidParameterError unless there is such a code, with a bound where it needs one."""
    check_choice("code", code, CODE_DTYPES)
    if code == "u8":
        check_bound(bound_px)
    elif bound_px is not None:
        raise InvalidParameterError(f"bound_px is for code 'u8' alone, got {bound_px} with {code!r}")
