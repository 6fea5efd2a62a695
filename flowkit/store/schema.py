"""The store's format 1.0: the one place that knows its names, dtypes and attributes.

A shard, a single-file store, a part and a segment share one layout::

    /                     attrs: format, format_version, ..., one for each field of `StoreOptions`
    /videos/<id>/flow     int8 or int16 (n_flow, 2, H, W), one gzip chunk a field, and
        flow_scale        float32 (n_flow,): px = flow * flow_scale
        flow_crc32        uint32 (n_flow,): of each stored chunk
        flow_jpeg         with codec `jpeg`, in place of flow and flow_scale: uint8 (nbytes,), with
        flow_offset       int64 (2 n_flow + 1,): u then v of each field, and flow_crc32 (2 n_flow,)
        frames            uint8 (nbytes,): JPEGs end to end, with frames_offset int64 (n_frames + 1,)
        frames_crc32      uint32 (n_frames,)
        pts               float64 (n_frames,) seconds
        (attributes)      one for each field of `VideoRecord`
    /index/videos         one row a video: `VideoRecord` as a table, with id, label, shard, path
    /index/<field>_addr, frame_addr, ...   where each piece lies and how it is checked: `places`
    /labels /failures     class names in order; what did not make it, and why

Further flow fields have the same datasets under their own name in place of `flow`.
A master has `/shard_table`, `/shards/<number>` and `/videos/<id>` (external links) besides.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from flowkit.errors import InvalidParameterError, StoreFormatError
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, FLOW_CODECS, flow_codec
from flowkit.store.ids import MAX_ID_BYTES as MAX_ID_BYTES
from flowkit.store.ids import check_id_set as check_id_set
from flowkit.store.ids import check_video_id as check_video_id
from flowkit.store.ids import encode_video_id as encode_video_id

if TYPE_CHECKING:
    from flowkit.store.codecs.codec import FlowCodec

FORMAT = "flowkit-store"
VERSION = (1, 0)
# Readable by HDF5 1.10 and later; a new h5py's "latest" is not.
LIBVER = ("v110", "v110")

VIDEOS = "videos"
INDEX = "index"
INDEX_VIDEOS = "index/videos"
FILE_BYTES = "file_bytes"
LABELS = "labels"
FAILURES = "failures"
SHARDS = "shards"
SHARD_TABLE = "shard_table"
NEXT_SHARD = "next_shard"

FRAME_CODECS = ("jpeg", "none")
ENGINE_FAMILIES = ("flowkit", "opencv")
STATUSES = ("ok", "truncated")

MAX_SIDE = 65_535
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")

Scalar: TypeAlias = str | int | float
Attributes: TypeAlias = dict[str, Scalar]
Columns: TypeAlias = dict[str, type[str] | type[int] | type[float]]


def _canonical_json(text: str, what: str) -> str:
    """Return JSON text in its one form, so that equal settings are equal text."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        raise InvalidParameterError(f"{what} must be JSON text, got {text!r}") from None
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _check_choice(name: str, value: str, supported: tuple[str, ...]) -> None:
    if value not in supported:
        raise InvalidParameterError(f"Invalid {name} ({value!r}). Supported values are {supported}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldOptions:
    """One flow field of a store: its name and the TV-L1 settings that make it."""

    name: str = "flow"
    tvl1_preset: str
    tvl1_params: str
    """JSON text."""

    def __post_init__(self) -> None:
        reserved = ("frame", "frames", "pts", "videos")
        if not FIELD_NAME.fullmatch(self.name) or self.name in reserved:
            raise InvalidParameterError(
                f"Invalid field name ({self.name!r}). Lower-case letters, digits and _ make one, as in "
                f"'flow_backward'; {reserved} are taken"
            )
        object.__setattr__(self, "tvl1_params", _canonical_json(self.tvl1_params, "tvl1_params"))


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """What decides a store's contents: every file of one store has the same."""

    fields: tuple[FieldOptions, ...]
    step: int = 1
    """Frames from the first to the second of a pair."""
    flow_codec: str = DEFAULT_FLOW_CODEC
    bound_px: float = DEFAULT_BOUND_PX
    """Half the range of a bounded codec, px; it says nothing about the others."""
    frame_codec: str = "jpeg"
    jpeg_quality: int = 95
    resize: str = "{}"
    """JSON text: mode, size, interpolation."""
    sampling: str = "{}"
    """JSON text: resampling in time and the like."""
    engine_family: str = "flowkit"
    """`flowkit` (cpu and cuda may go on with each other's work) or `opencv`."""

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or names[0] != "flow" or len(set(names)) < len(names):
            raise InvalidParameterError(f"fields must be distinct with 'flow' first, got {names}")
        if self.step < 1:
            raise InvalidParameterError(f"step must be >= 1, got {self.step}")
        if not 1 <= self.jpeg_quality <= 100:
            raise InvalidParameterError(f"jpeg_quality must be in [1, 100], got {self.jpeg_quality}")
        if not 0 < self.bound_px < float("inf"):
            raise InvalidParameterError(f"bound_px must be finite and > 0, got {self.bound_px}")
        _check_choice("flow_codec", self.flow_codec, tuple(FLOW_CODECS))
        _check_choice("frame_codec", self.frame_codec, FRAME_CODECS)
        _check_choice("engine_family", self.engine_family, ENGINE_FAMILIES)
        for name in ("resize", "sampling"):
            object.__setattr__(self, name, _canonical_json(getattr(self, name), name))

    @property
    def codec(self) -> FlowCodec:
        """The codec of the flow fields."""
        return flow_codec(self.flow_codec, bound_px=self.bound_px)

    def differences(self, other: StoreOptions) -> list[str]:
        """Return one line an option that differs: its name, the value here (stored) and there (asked)."""
        mine, theirs = self.to_attrs(), other.to_attrs()
        if self.codec == other.codec:
            theirs["bound"] = mine["bound"]
        if not self.codec.stores_planes and self.frame_codec == other.frame_codec == "none":
            theirs["jpeg_quality"] = mine["jpeg_quality"]
        return [
            f"{name}: stored {mine[name]!r}, asked {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]

    def to_attrs(self) -> Attributes:
        """Return these options as the attributes of a file's root."""
        presets = {field.name: field.tvl1_preset for field in self.fields}
        params = {field.name: json.loads(field.tvl1_params) for field in self.fields}
        return {
            "fields": json.dumps(list(presets)),
            "tvl1_preset": json.dumps(presets),
            "tvl1_params": json.dumps(params, sort_keys=True, ensure_ascii=False),
            "step": self.step,
            "flow_codec": self.flow_codec,
            "bound": float(self.bound_px),
            "rounding": "half to even",
            "frame_codec": self.frame_codec,
            "jpeg_quality": self.jpeg_quality,
            "resize": self.resize,
            "sampling": self.sampling,
            "engine_family": self.engine_family,
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Self:
        """Return the options that `to_attrs` wrote.

        Raises
        ------
        StoreFormatError
            An attribute is missing, of another type or out of range.
        """
        try:
            presets, params = json.loads(attrs["tvl1_preset"]), json.loads(attrs["tvl1_params"])
            return cls(
                fields=tuple(
                    FieldOptions(
                        name=str(name), tvl1_preset=str(presets[name]), tvl1_params=json.dumps(params[name])
                    )
                    for name in json.loads(attrs["fields"])
                ),
                step=int(attrs["step"]),
                flow_codec=str(attrs["flow_codec"]),
                bound_px=float(attrs["bound"]),
                frame_codec=str(attrs["frame_codec"]),
                jpeg_quality=int(attrs["jpeg_quality"]),
                resize=str(attrs["resize"]),
                sampling=str(attrs["sampling"]),
                engine_family=str(attrs["engine_family"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise StoreFormatError(f"the options of the store cannot be read: {error}") from error


OPTION_TYPES: Columns = {
    name: type(value)
    for name, value in StoreOptions(fields=(FieldOptions(tvl1_preset="", tvl1_params="{}"),))
    .to_attrs()
    .items()
}


def field_names(options: StoreOptions) -> tuple[str, ...]:
    """Return the names of a store's flow fields, `flow` first."""
    return tuple(field.name for field in options.fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFingerprint:
    """What tells whether a source is still the one that was extracted."""

    name: str
    """Name of the source; bytes that are not UTF-8 become `%XX`."""
    bytes: int
    mtime_ns: int
    sha256: str = ""
    """Hex digest, or empty where it was not computed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _storable(self.name))

    def matches(self, other: SourceFingerprint) -> bool:
        """Tell whether both are the same contents: size and time agree, or else the digests do."""
        if self.bytes != other.bytes:
            return False
        return self.mtime_ns == other.mtime_ns or (bool(self.sha256) and self.sha256 == other.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRecord:
    """Everything a store says of one video besides its pictures and its flow."""

    video_id: str
    label: str = ""
    width: int
    height: int
    """As stored, px."""
    source_width: int
    source_height: int
    """Upright, before resizing, px."""
    rotation: int = 0
    """Degrees clockwise that were applied to make the frames upright."""
    fps: float
    n_frames: int
    n_flow: int
    """Flow fields of each kind: n_frames - step."""
    backend: str
    device: str = ""
    opencv_version: str = ""
    status: str = "ok"
    """`ok` or `truncated`."""
    status_reason: str = ""
    skipped_frames: int = 0
    pts_repaired: int = 0
    """Whether, or how many, timestamps were missing or ran backwards and were repaired."""
    source_name: str
    source_bytes: int
    source_mtime_ns: int
    source_sha256: str = ""
    clipped_fraction: float = 0.0
    """Share of the flow components that the codec clipped, in [0, 1]."""
    flow_max_px: float = 0.0
    """Largest absolute flow component before quantisation, px."""
    deviations: str = ""
    """Where the backend departs from the parameters, in words."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    """The stretch of the source that a list asked for; None: from its start, to its end."""

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise InvalidParameterError(
                f"width and height must be in [1, {MAX_SIDE}], got {self.width} x {self.height}"
            )
        if self.n_frames < 0 or self.n_flow < 0:
            raise InvalidParameterError(f"counts must be >= 0, got {self.n_frames=}, {self.n_flow=}")
        _check_choice("status", self.status, STATUSES)
        for name, kind in RECORD_TYPES.items():
            if kind is str:
                object.__setattr__(self, name, _storable(getattr(self, name)))

    @property
    def fingerprint(self) -> SourceFingerprint:
        """What identifies the source."""
        return SourceFingerprint(
            name=self.source_name,
            bytes=self.source_bytes,
            mtime_ns=self.source_mtime_ns,
            sha256=self.source_sha256,
        )

    def to_attrs(self) -> Attributes:
        """Return all but the id as attributes of the video's group; None becomes NaN."""
        values = {name: getattr(self, name) for name in RECORD_TYPES}
        return {
            name: kind(math.nan if values[name] is None else values[name])
            for name, kind in RECORD_TYPES.items()
        }

    @classmethod
    def from_attrs(cls, video_id: str, attrs: Mapping[str, Any]) -> Self:
        """Return the record of a video whose group has the attributes that `to_attrs` wrote.

        Raises
        ------
        StoreFormatError
            An attribute is missing, of another type or out of range.
        """
        try:
            flat: dict[str, Any] = {name: kind(attrs[name]) for name, kind in RECORD_TYPES.items()}
            for name in ("start_seconds", "end_seconds"):
                flat[name] = None if math.isnan(flat[name]) else flat[name]
            return cls(video_id=video_id, **flat)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StoreFormatError(f"the attributes of {video_id!r} cannot be read: {error!r}") from error


# The attributes of a video's group, in order; /index/videos has them as columns after its own.
RECORD_TYPES: Columns = {
    field.name: {"str": str, "int": int, "float": float, "float | None": float}[str(field.type)]
    for field in fields(VideoRecord)
    if field.name != "video_id"
}
INDEX_COLUMNS: Columns = {"id": str, "shard": int, "path": str, **RECORD_TYPES}
FAILURE_COLUMNS: Columns = {"source": str, "reason": str, "detail": str}
LABEL_COLUMNS: Columns = {"label": str}
SHARD_COLUMNS: Columns = {"name": str, "bytes": int, "sha256": str}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One source that did not make it into the store."""

    source: str
    reason: str
    """One word of the ledger: `unopenable`, `too_short`, `worker_died`, ..."""
    detail: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _storable(getattr(self, field.name)))

    def to_json(self) -> str:
        """Return the failure as one line of the ledger."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)}, ensure_ascii=False)


def _storable(text: str) -> str:
    """Return text that HDF5 can hold: names and messages of others may hold any byte."""
    if text.isascii() and "\0" not in text:
        return text
    return encode_video_id(text).replace("\0", " ")
