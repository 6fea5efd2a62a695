"""flowkit: raw videos to TV-L1 optical flow in one HDF5 store.

Videos to a store, and back to arrays::

    report = flowkit.extract("videos/", "out.h5")       # ExtractConfig, Progress → ExtractReport
    setup = flowkit.prepare("videos/", "out.h5")        # the plan alone: ExtractSetup
    sources = flowkit.find_sources(["videos/"])         # VideoSource: path, id, label, times
    flowkit.verify("out.h5").sound
    with flowkit.open("out.h5") as store:               # Store: clips by their ids
        flow = store["clip"].flow(0, 8)                 # Clip; float32 (8, 2, H, W), px

Flow of arrays in memory::

    flow = flowkit.tvl1_flow(I0, I1)                    # TVL1Params or a name of PRESETS
    flows = flowkit.tvl1_flow_batch(frames, pairs)      # BackendName: "auto", "cuda", "cpu" …
    flowkit.available_backends()                        # BackendStatus of each engine

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
    from flowkit.extraction.run import ExtractReport, ExtractSetup, extract, prepare
    from flowkit.extraction.sources import VideoSource, find_sources
    from flowkit.extraction.store_run import Plan, VideoOutcome
    from flowkit.frames import Frame, ResizeRule
    from flowkit.jobs import Progress
    from flowkit.store.read.store import Clip, Store
    from flowkit.store.read.store import open_store as open
    from flowkit.store.tools.verify import verify
    from flowkit.tvl1.backend import BackendChoice, BackendName, BackendStatus, available_backends
    from flowkit.tvl1.engine import Solver
    from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch
    from flowkit.tvl1.params import PRESETS, TVL1Params
    from flowkit.typing import Decoder, Flow
    from flowkit.video.reader import DecodeReport, VideoReader, open_video, probe
    from flowkit.video.source import VideoInfo

__all__ = [
    "PRESETS",
    "BackendChoice",
    "BackendName",
    "BackendStatus",
    "Clip",
    "DecodeReport",
    "Decoder",
    "Executor",
    "ExtractConfig",
    "ExtractReport",
    "ExtractSetup",
    "Flow",
    "FlowkitError",
    "Frame",
    "InlineExecutor",
    "LocalExecutor",
    "Plan",
    "Progress",
    "ResizeRule",
    "Solver",
    "Store",
    "TVL1Params",
    "VideoInfo",
    "VideoOutcome",
    "VideoReader",
    "VideoSource",
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
    "BackendChoice": "flowkit.tvl1.backend",
    "BackendName": "flowkit.tvl1.backend",
    "BackendStatus": "flowkit.tvl1.backend",
    "Clip": "flowkit.store.read.store",
    "DecodeReport": "flowkit.video.reader",
    "Decoder": "flowkit.typing",
    "Executor": "flowkit.executor",
    "ExtractConfig": "flowkit.extraction.config",
    "ExtractReport": "flowkit.extraction.run",
    "ExtractSetup": "flowkit.extraction.run",
    "Flow": "flowkit.typing",
    "FlowkitError": "flowkit.errors",
    "Frame": "flowkit.frames",
    "InlineExecutor": "flowkit.executor",
    "LocalExecutor": "flowkit.executor",
    "PRESETS": "flowkit.tvl1.params",
    "Plan": "flowkit.extraction.store_run",
    "Progress": "flowkit.jobs",
    "ResizeRule": "flowkit.frames",
    "Solver": "flowkit.tvl1.engine",
    "Store": "flowkit.store.read.store",
    "TVL1Params": "flowkit.tvl1.params",
    "VideoInfo": "flowkit.video.source",
    "VideoOutcome": "flowkit.extraction.store_run",
    "VideoReader": "flowkit.video.reader",
    "VideoSource": "flowkit.extraction.sources",
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
