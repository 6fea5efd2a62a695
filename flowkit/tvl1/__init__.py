"""TV-L1 optical flow: parameters, the reference twin, the engines and their choice.

Names load on first use: importing `flowkit.tvl1.params` must cost neither NumPy nor OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names

if TYPE_CHECKING:
    from flowkit.tvl1.backend import BackendChoice, available_backends, choose_backend
    from flowkit.tvl1.engine import Solver
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params

_HOMES = {
    "BackendChoice": "flowkit.tvl1.backend",
    "PRESETS": "flowkit.tvl1.params",
    "Solver": "flowkit.tvl1.engine",
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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
