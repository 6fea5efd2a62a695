"""Every choice of an extraction, and the part of it that a store keeps."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import get_args

from flowkit.errors import InvalidParameterError
from flowkit.extraction.scratch import DEFAULT_BYTES
from flowkit.methods import check_method, flow_method, is_function
from flowkit.methods.method import FlowMethod
from flowkit.methods.tvl1 import TVL1Method
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC
from flowkit.store.schema import DEFAULT_SHARD_BYTES, FIRST_REVISION, FieldOptions, StoreOptions
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.params import DEFAULT_PRESET, NUMERICS_REVISION, TVL1Params, resolve_params
from flowkit.typing import Decoder, FrameCodec
from flowkit.validate import check_at_least, check_choice, check_integer, check_range, check_that
from flowkit.video.source import check_deinterlace

# Some minutes of one core's work, and seconds to join.
DEFAULT_SEGMENT_FRAMES = 600

BACKWARD = "flow_backward"
"""The field of the flow from frame k + step to frame k; every other field leads onwards."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractConfig:
    """Every choice of an extraction.

    Parameters
    ----------
    method : str
        What computes the field `flow`: "tvl1", "dis", "farneback", one of these with a preset
        ("dis/fast"), or "package.module:function", a function of one's own (`flowkit.methods.function`).
    params : TVL1Params or None
        Of method "tvl1"; `PRESETS["tsn"]` is a preset. None: those of the store, so that it goes on as it
        began; of a new one, those of preset "fast".
    backend : {"auto", "cpu", "cuda", "opencv", "reference"}
        Engine of TV-L1. Only "auto" falls back; `ExtractSetup.backend` has the reason.
    more_fields : tuple of (str, str)
        Further flow fields: the name of each and its method, as `method`; "tvl1" has its default preset.
    batch_size : int or None
        Pairs of one call of functions of one's own, >= 1; None: what each says itself.
    resize : ResizeRule
        Size of the stored frames; flow is computed at that size, in its pixels. What it leaves undecided is
        the store's, so that it goes on as it began.
    step : int
        Frame k is paired with frame k + step, >= 1.
    fps : float or None
        Resample by time to so many frames per second, > 0; those of a folder of images (25 without it).
    deinterlace : bool or None
        Make interlaced frames those of one moment, by FFmpeg's bwdif; others stay as they are. Needs decoder
        "av". None: as the store has it; a new one has them as they are coded.
    backward : bool
        Also store the flow from frame k + step to k, as the field `flow_backward`.
    flow_codec : str or None
        Name of a codec of `flowkit.store.codecs.FLOW_CODECS`. None: that of the store, so that it goes on as
        it began; of a new one, the default.
    bound_px : float or None
        Range of a bounded codec, px, > 0. None: that of the store; of a new one, TSN's 20.
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
    video_timeout : float or None
        Seconds without a further frame after which a video fails as "timed_out", >= 0; 0 is never, None 600 s
        and 1 s more for each MB of its file.
    update : bool
        Redo videos whose source has changed since.
    log_file : Path or None
        Gets a line of JSON for each event of the run, appended; see `flowkit.extraction.watch`.
    scratch : Path or None
        Folder in which videos of archives and addresses are while they are worked on; None is the system's
        for temporaries. `scratch_bytes` is the most that they take there at once, >= 1: a video that has
        more fails.
    segment_frames : int
        Frames after which a long video's part is committed and goes on in another, >= 1.

    Raises
    ------
    InvalidParameterError
        A value outside its range; `StoreOptions` checks the codecs, bound, quality and step.
    """

    method: str = "tvl1"
    params: TVL1Params | None = None
    backend: BackendName = "auto"
    resize: ResizeRule = dataclasses.field(default_factory=ResizeRule)
    step: int = 1
    fps: float | None = None
    deinterlace: bool | None = None
    backward: bool = False
    more_fields: tuple[tuple[str, str], ...] = ()
    batch_size: int | None = None
    flow_codec: str | None = None
    bound_px: float | None = None
    frame_codec: FrameCodec = "jpeg"
    jpeg_quality: int = 95
    decoder: Decoder = "auto"
    gpus: tuple[int, ...] = ()
    gpu_memory_bytes: int = 0
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    fail_fast: bool = False
    video_timeout: float | None = None
    update: bool = False
    log_file: Path | None = None
    scratch: Path | None = None
    scratch_bytes: int = DEFAULT_BYTES
    segment_frames: int = DEFAULT_SEGMENT_FRAMES

    def __post_init__(self) -> None:
        """Check what no other dataclass checks; `StoreOptions` checks the rest."""
        check_choice("decoder", self.decoder, get_args(Decoder))
        check_at_least("jobs", self.jobs, 1)
        if self.fps is not None:
            check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        if self.video_timeout is not None:
            check_range("video_timeout", self.video_timeout, 0, math.inf, unit="s")
        check_at_least("segment_frames", self.segment_frames, 1)
        check_at_least("scratch_bytes", self.scratch_bytes, 1)
        check_that("shard_bytes", self.shard_bytes, self.shard_bytes >= 1 << 20, "at least 1 MiB")
        self._check_methods()

    def _check_methods(self) -> None:
        check_method(self.method)
        for name, method in self.more_fields:
            check_method(method)
            if name in ("flow", BACKWARD):
                raise InvalidParameterError(
                    f"a further field cannot be {name!r}: `method` makes 'flow', and `backward` {BACKWARD!r}"
                )
        texts = [self.method, *(method for _, method in self.more_fields)]
        if self.params is not None and self.method != "tvl1":
            raise InvalidParameterError(
                f"TV-L1 parameters belong to method 'tvl1', and the method is {self.method!r}; "
                "name its preset as in 'dis/fast' or 'tvl1/fast'"
            )
        if self.backend != "auto" and not any(text.partition("/")[0] == "tvl1" for text in texts):
            raise InvalidParameterError(
                f"backend {self.backend!r} is an engine of TV-L1, and no field is: {', '.join(texts)}"
            )
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, 1, unit="pairs")
            of_use = any(map(is_function, texts))
            check_that("batch_size", self.batch_size, of_use, "given with a method package.module:function")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MethodFields:
    """A method, and the flow fields that it computes: those of one method are computed together."""

    method: FlowMethod
    fields: tuple[str, ...]


def methods_of(config: ExtractConfig) -> tuple[MethodFields, ...]:
    """Return every method of a configuration with its fields, that of `flow` first; functions are imported.

    Raises
    ------
    InvalidParameterError
        A function does not exist, or says of itself what it may not.
    BackendUnavailableError
        A function cannot be imported.
    """
    named = [("flow", config.method), *([(BACKWARD, config.method)] if config.backward else [])]
    found: dict[FlowMethod, list[str]] = {}
    for name, text in [*named, *config.more_fields]:
        if text == "tvl1" and text == config.method and name in ("flow", BACKWARD):
            method: FlowMethod = TVL1Method(params=config.params or resolve_params(DEFAULT_PRESET))
        else:
            method = flow_method(text, batch_size=config.batch_size if is_function(text) else None)
        found.setdefault(method, []).append(name)
    return tuple(MethodFields(method=method, fields=tuple(names)) for method, names in found.items())


def resumed_config(config: ExtractConfig, stored: StoreOptions | None) -> ExtractConfig:
    """Return the configuration with codec, bound and TV-L1 parameters: its own, else those of the store.

    Parameters are those of the store's field `flow`. Without a store all stay None, which is the defaults;
    so do parameters where the store's are not of this version, and `check_options` names the difference then.
    """
    if stored is None:
        return config
    config = dataclasses.replace(
        config,
        flow_codec=config.flow_codec or stored.flow_codec,
        bound_px=stored.bound_px if config.bound_px is None else config.bound_px,
    )
    flow = stored.fields[0]
    if config.params is not None or not config.method == flow.method == "tvl1":
        return config
    try:
        return dataclasses.replace(config, params=TVL1Params.from_json(flow.tvl1_params))
    except InvalidParameterError:
        return config


def decided_config(config: ExtractConfig, stored: StoreOptions | None, *, decoder: Decoder) -> ExtractConfig:
    """Return the configuration with TV-L1 parameters as `resumed_config`, and frames as `decided_frames`."""
    return decided_frames(resumed_config(config, stored), stored, decoder=decoder)


def decided_frames(config: ExtractConfig, stored: StoreOptions | None, *, decoder: Decoder) -> ExtractConfig:
    """Return the configuration with all that decides the frames: its own, else the store's, else a new one's.

    Parameters
    ----------
    config
        `resize.pixels` and `resize.scaler` may be None.
    stored
        Options of the store; None of a new one. Of a resize rule of another version nothing is taken, and
        `check_options` names the difference.
    decoder
        The one that reads: `av` gives planes.

    Raises
    ------
    InvalidParameterError
        The frames are scaled by swscale or deinterlaced, asked for or in the store, and the decoder is
        OpenCV's.
    """
    try:
        before = None if stored is None else ResizeRule.from_json(stored.resize)
    except InvalidParameterError:
        before = None
    rule = config.resize.decided(before, planes=decoder == "av")
    if rule.scaler == "swscale" and decoder != "av":
        whose = "asked for" if config.resize.scaler else "that of the store"
        raise InvalidParameterError(
            f"scaler 'swscale', {whose}, needs decoder 'av', got {decoder!r}; install `av`, or extract into "
            "another file with scaler 'opencv'"
        )
    deinterlace = config.deinterlace
    if deinterlace is None:
        deinterlace = stored is not None and is_deinterlaced(stored)
    if deinterlace:
        check_deinterlace(decoder, whose="asked for" if config.deinterlace else "that of the store")
    return dataclasses.replace(config, resize=rule, deinterlace=deinterlace)


def is_deinterlaced(options: StoreOptions) -> bool:
    """Return whether a store's interlaced frames were made those of one moment."""
    sampling = json.loads(options.sampling)
    return isinstance(sampling, dict) and sampling.get("deinterlace") is True


def store_options(config: ExtractConfig, *, backend: str | None) -> StoreOptions:
    """Return the part of the configuration that decides the store's contents.

    `backend` is the name of the engine that computes TV-L1, None where no field is TV-L1: OpenCV's flow is
    not continued by others.
    """
    made = {name: each.method for each in methods_of(config) for name in each.fields}
    backward = [BACKWARD] if config.backward else []
    others_compute = backend in (None, "opencv")
    return StoreOptions(
        fields=tuple(
            FieldOptions(name=name, tvl1_preset=made[name].preset, tvl1_params=made[name].to_json())
            for name in ("flow", *backward, *(name for name, _ in config.more_fields))
        ),
        step=config.step,
        flow_codec=config.flow_codec or DEFAULT_FLOW_CODEC,
        bound_px=DEFAULT_BOUND_PX if config.bound_px is None else config.bound_px,
        frame_codec=config.frame_codec,
        jpeg_quality=config.jpeg_quality,
        resize=config.resize.to_json(),
        sampling=json.dumps({"fps": config.fps} | ({"deinterlace": True} if config.deinterlace else {})),
        engine_family="opencv" if others_compute else "flowkit",
        numerics_revision=FIRST_REVISION if others_compute else NUMERICS_REVISION,
    )
