"""flowkit: raw video to TV-L1 optical flow in one HDF5 store.

Names load on first use, so that `import flowkit` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit.errors import FlowkitError
    from flowkit.extract import ExtractConfig
    from flowkit.frames import ResizeRule
    from flowkit.inputs import find_sources
    from flowkit.store.reader import Clip, Store
    from flowkit.store.reader import open_store as open
    from flowkit.store.tools.verify import verify
    from flowkit.tvl1.backend import available_backends
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params
    from flowkit.video import open_video, probe

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Clip",
    "ExtractConfig",
    "FlowkitError",
    "ResizeRule",
    "Store",
    "TVL1Params",
    "available_backends",
    "find_sources",
    "open",
    "open_video",
    "probe",
    "tvl1_flow",
    "tvl1_flow_batch",
    "verify",
]

_HOMES = {
    "Clip": "flowkit.store.reader",
    "ExtractConfig": "flowkit.extract",
    "FlowkitError": "flowkit.errors",
    "PRESETS": "flowkit.tvl1.params",
    "ResizeRule": "flowkit.frames",
    "Store": "flowkit.store.reader",
    "TVL1Params": "flowkit.tvl1.params",
    "available_backends": "flowkit.tvl1.backend",
    "find_sources": "flowkit.inputs",
    "open": "flowkit.store.reader:open_store",
    "open_video": "flowkit.video",
    "probe": "flowkit.video",
    "tvl1_flow": "flowkit.tvl1.flow",
    "tvl1_flow_batch": "flowkit.tvl1.flow",
    "verify": "flowkit.store.tools.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'flowkit' has no attribute {name!r}")
    module, _, there = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
