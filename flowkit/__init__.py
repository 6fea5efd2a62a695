"""flowkit: raw videos to TV-L1 optical flow in one HDF5 store.

Videos to a store, and back to arrays::

    report = flowkit.extract("videos/", "out.h5")       # ExtractConfig, Progress → ExtractReport
    setup = flowkit.prepare("videos/", "out.h5")        # the plan alone: ExtractSetup
    sources = flowkit.find_sources(["videos/"])         # VideoSource: path, id, label, times
    flowkit.verify("out.h5").sound
    with flowkit.open("out.h5") as store:               # Store; of a path or address: Location, RemotePath
        flow = store["clip"].flow(0, 8)                 # Clip; float32 (8, 2, H, W), px

Flow of arrays in memory::

    flow = flowkit.tvl1_flow(I0, I1)                    # TVL1Params or a name of PRESETS
    flows = flowkit.tvl1_flow_batch(frames, pairs)      # BackendName: "auto", "cuda", "cpu" …
    flowkit.available_backends()                        # BackendStatus of each engine
    flows = flowkit.flow_batch(rgb, pairs, method="dis/fast")   # or "farneback", "package.module:function"

Frames of a video::

    with flowkit.open_video("a.mp4") as reader:         # VideoReader; Decoder: "auto", "av", "opencv"
        for frame in reader: ...                        # Frame: rgb, pts_seconds
    reader.info, reader.report                          # VideoInfo, DecodeReport
    flowkit.probe("a.mp4")                              # VideoInfo

Flow is float32 (…, 2, H, W), u to the right, then v down, px per frame step; frames are uint8 RGB
(n, H, W, 3). Errors are `FlowkitError`s of `flowkit.errors`. Names load on first use, so that
`import flowkit` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names
from flowkit._version import __version__ as __version__

if TYPE_CHECKING:
    from flowkit.errors import FlowkitError
    from flowkit.executor import Executor, InlineExecutor, LocalExecutor
    from flowkit.extraction.config import ExtractConfig
    from flowkit.extraction.engines import EngineChoice
    from flowkit.extraction.lists import ListEntry
    from flowkit.extraction.plan import Plan
    from flowkit.extraction.run import ExtractReport, ExtractSetup, extract, prepare
    from flowkit.extraction.search import ImagesRule
    from flowkit.extraction.sources import VideoSource, find_sources
    from flowkit.extraction.store_run import VideoOutcome
    from flowkit.frames import Frame
    from flowkit.jobs import Progress, TaskAtWork
    from flowkit.methods.flow import flow_batch
    from flowkit.rawframes.export import ExportConfig, ExportReport, export
    from flowkit.rawframes.export_worker import ExportOutcome
    from flowkit.rawframes.import_config import ImportConfig
    from flowkit.rawframes.importer import ImportReport, import_rawframes
    from flowkit.remote import Location, RemotePath
    from flowkit.resize_rule import ResizeRule
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
    from flowkit.tvl1.backend import BackendName, BackendStatus, available_backends
    from flowkit.tvl1.engine import Solver
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params
    from flowkit.typing import Codes, Decoder, Flow, FrameCodec
    from flowkit.video.reader import DecodeReport, VideoReader, open_video, probe
    from flowkit.video.source import VideoInfo

__all__ = [
    "PRESETS",
    "Access",
    "AccessMethod",
    "BackendName",
    "BackendStatus",
    "Clip",
    "ClipData",
    "ClipRequest",
    "Codes",
    "DecodeReport",
    "Decoder",
    "EngineChoice",
    "Executor",
    "ExportConfig",
    "ExportOutcome",
    "ExportReport",
    "ExtractConfig",
    "ExtractReport",
    "ExtractSetup",
    "Failure",
    "FieldOptions",
    "Flow",
    "FlowCodec",
    "FlowkitError",
    "Frame",
    "FrameCodec",
    "ImagesRule",
    "ImportConfig",
    "ImportReport",
    "InlineExecutor",
    "ListEntry",
    "LocalExecutor",
    "Location",
    "Plan",
    "Progress",
    "RemotePath",
    "RepairReport",
    "ResizeRule",
    "Solver",
    "Store",
    "StoreContents",
    "StoreInfo",
    "StoreOptions",
    "TVL1Params",
    "TaskAtWork",
    "VerifyReport",
    "VideoInfo",
    "VideoOutcome",
    "VideoReader",
    "VideoRecord",
    "VideoSource",
    "available_backends",
    "export",
    "extract",
    "find_sources",
    "flow_batch",
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
    "BackendName": "flowkit.tvl1.backend",
    "BackendStatus": "flowkit.tvl1.backend",
    "Clip": "flowkit.store.read.clip",
    "ClipData": "flowkit.store.read.clip",
    "ClipRequest": "flowkit.store.read.clip",
    "Codes": "flowkit.typing",
    "DecodeReport": "flowkit.video.reader",
    "Decoder": "flowkit.typing",
    "EngineChoice": "flowkit.extraction.engines",
    "Executor": "flowkit.executor",
    "ExportConfig": "flowkit.rawframes.export",
    "ExportOutcome": "flowkit.rawframes.export_worker",
    "ExportReport": "flowkit.rawframes.export",
    "ExtractConfig": "flowkit.extraction.config",
    "ExtractReport": "flowkit.extraction.run",
    "ExtractSetup": "flowkit.extraction.run",
    "Failure": "flowkit.store.record",
    "FieldOptions": "flowkit.store.schema",
    "Flow": "flowkit.typing",
    "FlowCodec": "flowkit.store.codecs.codec",
    "FlowkitError": "flowkit.errors",
    "Frame": "flowkit.frames",
    "FrameCodec": "flowkit.typing",
    "ImagesRule": "flowkit.extraction.search",
    "ImportConfig": "flowkit.rawframes.import_config",
    "ImportReport": "flowkit.rawframes.importer",
    "InlineExecutor": "flowkit.executor",
    "ListEntry": "flowkit.extraction.lists",
    "LocalExecutor": "flowkit.executor",
    "Location": "flowkit.remote",
    "PRESETS": "flowkit.tvl1.params",
    "Plan": "flowkit.extraction.plan",
    "Progress": "flowkit.jobs",
    "RemotePath": "flowkit.remote",
    "RepairReport": "flowkit.store.tools.repair",
    "ResizeRule": "flowkit.resize_rule",
    "Solver": "flowkit.tvl1.engine",
    "Store": "flowkit.store.read.store",
    "StoreContents": "flowkit.store.tools.combine",
    "StoreInfo": "flowkit.store.index",
    "StoreOptions": "flowkit.store.schema",
    "TVL1Params": "flowkit.tvl1.params",
    "TaskAtWork": "flowkit.jobs",
    "VerifyReport": "flowkit.store.tools.verify",
    "VideoInfo": "flowkit.video.source",
    "VideoOutcome": "flowkit.extraction.store_run",
    "VideoReader": "flowkit.video.reader",
    "VideoRecord": "flowkit.store.record",
    "VideoSource": "flowkit.extraction.sources",
    "available_backends": "flowkit.tvl1.backend",
    "export": "flowkit.rawframes.export",
    "extract": "flowkit.extraction.run",
    "find_sources": "flowkit.extraction.sources",
    "flow_batch": "flowkit.methods.flow",
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
