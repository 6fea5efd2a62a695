"""flowkit: raw video to TV-L1 optical flow in one HDF5 store.

Names load on first use, so that `import flowkit` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit.tvl1.params import PRESETS, TVL1Params

__version__ = "0.1.0"

_HOMES = {
    "PRESETS": "flowkit.tvl1.params",
    "TVL1Params": "flowkit.tvl1.params",
}

__all__ = ["PRESETS", "TVL1Params"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'flowkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
