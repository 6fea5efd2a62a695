"""TV-L1 optical flow: parameters, the reference twin, the engines and their choice.

Names load on first use: importing `flowkit.tvl1.params` must cost neither NumPy nor OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit.tvl1.backend import BackendChoice, Solver, available_backends, choose_backend
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params

_HOMES = {
    "BackendChoice": "flowkit.tvl1.backend",
    "PRESETS": "flowkit.tvl1.params",
    "Solver": "flowkit.tvl1.backend",
    "TVL1Params": "flowkit.tvl1.params",
    "available_backends": "flowkit.tvl1.backend",
    "choose_backend": "flowkit.tvl1.backend",
    "tvl1_flow": "flowkit.tvl1.flow",
    "tvl1_flow_batch": "flowkit.tvl1.flow",
}

__all__ = [
    "PRESETS",
    "BackendChoice",
    "Solver",
    "TVL1Params",
    "available_backends",
    "choose_backend",
    "tvl1_flow",
    "tvl1_flow_batch",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'flowkit.tvl1' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
