"""Many flows as the codes of a `flowkit.quantize.Quantizer`, as engines hand them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import Quantizer
from flowkit.typing import Flow


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowCodes:
    """The codes of many flows, and what belongs to each.

    Attributes
    ----------
    codes : array of the quantiser's dtype, (m, 2, H, W)
        u, then v.
    largest_px : float32 array, (m,)
        Largest absolute component of each flow, px.
    clipped : int32 array, (m,)
        Components of each flow that the code cannot hold.
    seconds : mapping
        Seconds that each stage took, all pairs together; only stages that the engine can tell
        apart. "upload", "solve" and "download" of batches that a GPU has in work side by side
        overlap.
    """

    codes: NDArray[Any]
    largest_px: NDArray[np.float32]
    clipped: NDArray[np.int32]
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


def quantize_flows(flows: NDArray[np.float32], quantizer: Quantizer) -> FlowCodes:
    """Quantise many flows on the host, pair by pair; without `seconds`.

    Parameters
    ----------
    flows : float32 array, (m, 2, H, W)
        px.
    quantizer : Quantizer

    Raises
    ------
    InvalidParameterError
        A flow is not finite.
    """
    codes = np.empty(flows.shape, quantizer.dtype)
    largest, clipped = np.zeros(len(flows), np.float32), np.zeros(len(flows), np.int32)
    for k in range(len(flows)):
        flow: Flow = flows[k]
        codes[k], largest[k], clipped[k] = quantizer.quantize(flow)
    return FlowCodes(codes=codes, largest_px=largest, clipped=clipped)
