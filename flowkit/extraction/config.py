"""Every choice of an extraction, and the part of it that a store keeps."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import get_args

from flowkit.frames import ResizeRule
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC
from flowkit.store.schema import DEFAULT_SHARD_BYTES, FieldOptions, StoreOptions
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params, preset_of, resolve_params
from flowkit.typing import Decoder, FrameCodec
from flowkit.validate import check_at_least, check_choice, check_range, check_that

# Some minutes of one core's work, and seconds to join.
DEFAULT_SEGMENT_FRAMES = 600


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractConfig:
    """Every choice of an extraction.

    Parameters
    ----------
    params : TVL1Params
        Of TV-L1; `PRESETS["tsn"]` is a preset. Default: "opencv-cuda".
    backend : {"auto", "cpu", "cuda", "opencv", "reference"}
        Engine of TV-L1. Only "auto" falls back; `ExtractSetup.backend` has the reason.
    resize : ResizeRule
        Size of the stored frames; flow is computed at that size, in its pixels.
    step : int
        Frame k is paired with frame k + step, >= 1.
    fps : float or None
        Resample by time to so many frames per second, > 0; those of a folder of images (25 without it).
    backward : bool
        Also store the flow from frame k + step to k, as the field `flow_backward`.
    flow_codec : str
        Name of a codec of `flowkit.store.codecs.FLOW_CODECS`; `bound_px` is the range of a bounded
        one, px, > 0.
    frame_codec : {"jpeg", "none"}
        Codec of the stored RGB frames, or none stored; `jpeg_quality` in [1, 100].
    decoder : {"auto", "av", "opencv"}
        Reader of the videos; "auto" is PyAV where it imports, else OpenCV.
    gpus : tuple of int
        With backend "cuda": the GPUs to use, one process each; empty is all of them.
    gpu_memory_bytes : int
        Most device memory that each takes; 0 is most of what is free.
    jobs : int
        Worker processes, >= 1.
    shard_bytes : int
        Beyond this size the store is a master file and shards; at least 1 MiB.
    fail_fast : bool
        Stop at the first video that fails.
    update : bool
        Redo videos whose source has changed since.
    segment_frames : int
        Frames after which a long video's part is committed and goes on in another, >= 1.

    Raises
    ------
    InvalidParameterError
        A value outside its range; `StoreOptions` checks the codecs, bound, quality and step.
    """

    params: TVL1Params = dataclasses.field(default_factory=lambda: resolve_params(DEFAULT_PRESET))
    backend: BackendName = "auto"
    resize: ResizeRule = dataclasses.field(default_factory=ResizeRule)
    step: int = 1
    fps: float | None = None
    backward: bool = False
    flow_codec: str = DEFAULT_FLOW_CODEC
    bound_px: float = DEFAULT_BOUND_PX
    frame_codec: FrameCodec = "jpeg"
    jpeg_quality: int = 95
    decoder: Decoder = "auto"
    gpus: tuple[int, ...] = ()
    gpu_memory_bytes: int = 0
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    fail_fast: bool = False
    update: bool = False
    segment_frames: int = DEFAULT_SEGMENT_FRAMES

    def __post_init__(self) -> None:
        """Check what no other dataclass checks; `StoreOptions` checks the rest."""
        check_choice("decoder", self.decoder, get_args(Decoder))
        check_at_least("jobs", self.jobs, 1)
        if self.fps is not None:
            check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        check_at_least("segment_frames", self.segment_frames, 1)
        check_that("shard_bytes", self.shard_bytes, self.shard_bytes >= 1 << 20, "at least 1 MiB")


def store_options(config: ExtractConfig, *, backend: str) -> StoreOptions:
    """Return the part of the configuration that decides the store's contents.

    `backend` is the name of the engine that computes: OpenCV's flow is not continued by others.
    """
    field = FieldOptions(
        name="flow", tvl1_preset=preset_of(config.params), tvl1_params=config.params.to_json()
    )
    fields: tuple[FieldOptions, ...] = (field,)
    if config.backward:
        fields += (dataclasses.replace(field, name="flow_backward"),)
    return StoreOptions(
        fields=fields,
        step=config.step,
        flow_codec=config.flow_codec,
        bound_px=config.bound_px,
        frame_codec=config.frame_codec,
        jpeg_quality=config.jpeg_quality,
        resize=config.resize.to_json(),
        sampling=json.dumps({"fps": config.fps}),
        engine_family="opencv" if backend == "opencv" else "flowkit",
    )
