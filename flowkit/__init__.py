"""flowkit: raw video to TV-L1 optical flow in one HDF5 store.

Names load on first use, so that `import flowkit` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names
from flowkit._version import __version__ as __version__

if TYPE_CHECKING:
    from flowkit.errors import FlowkitError
    from flowkit.extraction.config import ExtractConfig
    from flowkit.extraction.run import extract, prepare
    from flowkit.extraction.sources import find_sources
    from flowkit.frames import ResizeRule
    from flowkit.store.read.store import Clip, Store
    from flowkit.store.read.store import open_store as open
    from flowkit.store.tools.verify import verify
    from flowkit.tvl1.backend import available_backends
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params
    from flowkit.video.reader import open_video, probe

__all__ = [
    "PRESETS",
    "Clip",
    "ExtractConfig",
    "FlowkitError",
    "ResizeRule",
    "Store",
    "TVL1Params",
    "available_backends",
    "extract",
    "find_sources",
    "open",
    "open_video",
    "prepare",
    "probe",
    "tvl1_flow",
    "tvl1_flow_batch",
    "verify",
]

_HOMES = {
    "Clip": "flowkit.store.read.store",
    "ExtractConfig": "flowkit.extraction.config",
    "FlowkitError": "flowkit.errors",
    "PRESETS": "flowkit.tvl1.params",
    "ResizeRule": "flowkit.frames",
    "Store": "flowkit.store.read.store",
    "TVL1Params": "flowkit.tvl1.params",
    "available_backends": "flowkit.tvl1.backend",
    "extract": "flowkit.extraction.run",
    "find_sources": "flowkit.extraction.sources",
    "open": "flowkit.store.read.store:open_store",
    "open_video": "flowkit.video.reader",
    "prepare": "flowkit.extraction.run",
    "probe": "flowkit.video.reader",
    "tvl1_flow": "flowkit.tvl1.flow",
    "tvl1_flow_batch": "flowkit.tvl1.flow",
    "verify": "flowkit.store.tools.verify",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
