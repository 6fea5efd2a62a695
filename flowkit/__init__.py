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
    from flowkit.extraction.lists import ListEntry
    from flowkit.extraction.run import extract, prepare
    from flowkit.extraction.sources import find_sources
    from flowkit.frames import ResizeRule
    from flowkit.rawframes.export import ExportReport, export
    from flowkit.rawframes.export_plan import ExportConfig
    from flowkit.rawframes.export_worker import ExportOutcome
    from flowkit.rawframes.importer import ImportConfig, ImportReport, import_rawframes
    from flowkit.store.codecs.codec import FlowCodec
    from flowkit.store.index import StoreInfo
    from flowkit.store.read.clip import Clip, ClipData, ClipRequest
    from flowkit.store.read.handles import Access, AccessMethod
    from flowkit.store.read.store import Store
    from flowkit.store.read.store import open_store as open
    from flowkit.store.record import Failure, VideoRecord
    from flowkit.store.schema import FieldOptions, StoreOptions
    from flowkit.store.tools.combine import StoreContents, merge, relabel, subset
    from flowkit.store.tools.recode import recode
    from flowkit.store.tools.repair import RepairReport, repair
    from flowkit.store.tools.verify import VerifyReport, verify
    from flowkit.tvl1.backend import available_backends
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params
    from flowkit.typing import Codes, FrameCodec
    from flowkit.video.reader import open_video, probe

__all__ = [
    "PRESETS",
    "Access",
    "AccessMethod",
    "Clip",
    "ClipData",
    "ClipRequest",
    "Codes",
    "ExportConfig",
    "ExportOutcome",
    "ExportReport",
    "ExtractConfig",
    "Failure",
    "FieldOptions",
    "FlowCodec",
    "FlowkitError",
    "FrameCodec",
    "ImportConfig",
    "ImportReport",
    "ListEntry",
    "RepairReport",
    "ResizeRule",
    "Store",
    "StoreContents",
    "StoreInfo",
    "StoreOptions",
    "TVL1Params",
    "VerifyReport",
    "VideoRecord",
    "available_backends",
    "export",
    "extract",
    "find_sources",
    "import_rawframes",
    "merge",
    "open",
    "open_video",
    "prepare",
    "probe",
    "recode",
    "relabel",
    "repair",
    "subset",
    "tvl1_flow",
    "tvl1_flow_batch",
    "verify",
]

_HOMES = {
    "Access": "flowkit.store.read.handles",
    "AccessMethod": "flowkit.store.read.handles",
    "Clip": "flowkit.store.read.clip",
    "ClipData": "flowkit.store.read.clip",
    "ClipRequest": "flowkit.store.read.clip",
    "Codes": "flowkit.typing",
    "ExportConfig": "flowkit.rawframes.export_plan",
    "ExportOutcome": "flowkit.rawframes.export_worker",
    "ExportReport": "flowkit.rawframes.export",
    "ExtractConfig": "flowkit.extraction.config",
    "Failure": "flowkit.store.record",
    "FieldOptions": "flowkit.store.schema",
    "FlowCodec": "flowkit.store.codecs.codec",
    "FlowkitError": "flowkit.errors",
    "FrameCodec": "flowkit.typing",
    "ImportConfig": "flowkit.rawframes.importer",
    "ImportReport": "flowkit.rawframes.importer",
    "ListEntry": "flowkit.extraction.lists",
    "PRESETS": "flowkit.tvl1.params",
    "RepairReport": "flowkit.store.tools.repair",
    "ResizeRule": "flowkit.frames",
    "Store": "flowkit.store.read.store",
    "StoreContents": "flowkit.store.tools.combine",
    "StoreInfo": "flowkit.store.index",
    "StoreOptions": "flowkit.store.schema",
    "TVL1Params": "flowkit.tvl1.params",
    "VerifyReport": "flowkit.store.tools.verify",
    "VideoRecord": "flowkit.store.record",
    "available_backends": "flowkit.tvl1.backend",
    "export": "flowkit.rawframes.export",
    "extract": "flowkit.extraction.run",
    "find_sources": "flowkit.extraction.sources",
    "import_rawframes": "flowkit.rawframes.importer",
    "merge": "flowkit.store.tools.combine",
    "open": "flowkit.store.read.store:open_store",
    "open_video": "flowkit.video.reader",
    "prepare": "flowkit.extraction.run",
    "probe": "flowkit.video.reader",
    "recode": "flowkit.store.tools.recode",
    "relabel": "flowkit.store.tools.combine",
    "repair": "flowkit.store.tools.repair",
    "subset": "flowkit.store.tools.combine",
    "tvl1_flow": "flowkit.tvl1.flow",
    "tvl1_flow_batch": "flowkit.tvl1.flow",
    "verify": "flowkit.store.tools.verify",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
