"""The store's format 1.1: its names, dtypes and attributes, defined here only.

A shard, a single-file store, a part and a segment have one layout::

    /                     attrs: format, format_version, ..., one for each field of `StoreOptions`
    /metadata             the same and the class names as JSON, which a reader prefers: metadata.py
    /videos/<id>/flow     int8 or int16 (n_flow, 2, H, W), one gzip chunk a field, and
        flow_scale        float32 (n_flow,): px = flow * flow_scale
        flow_crc32        uint32 (n_flow,): of each stored chunk
        flow_clipped      int32 (n_flow,): components of the field that saturated, 0 to 2 H W; not where none
                          can, and not where the number is not known: `clipped_name`
        flow_jpeg         with codec `jpeg`, instead of flow and flow_scale: uint8 (nbytes,), with
        flow_offset       int64 (2 n_flow + 1,): u then v of each field, and flow_crc32 (2 n_flow,)
        frames            uint8 (nbytes,): JPEGs end to end, with frames_offset int64 (n_frames + 1,)
        frames_crc32      uint32 (n_frames,)
        pts               float64 (n_frames,) seconds
        (attributes)      one for each field of `VideoRecord`, record_crc32 of them all, pts_crc32,
                          flow_scale_crc32 and flow_clipped_crc32 of these arrays
    /index/videos         one row a video: `VideoRecord` as a table, with id, label, shard, path
    /index/<field>_addr, frame_addr, ...   address, size and checksum of each chunk: addresses.py
    /index/file_crc32     of all bytes outside the chunks: file_crc.py
    /labels /failures     class names in order; sources that failed, with reason

Tables and `/metadata` have the CRC of their bytes as attribute `crc32`. Format 1.0 has no CRC of these, no
`/metadata`, no `/index/file_crc32` and no record_crc32.
Further flow fields have the same datasets under their own name instead of `flow`.
A master has `/shard_table`, `/shards/<number>` and `/videos/<id>` (external links) besides.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, get_args

from flowkit.errors import InvalidParameterError, StoreFormatError
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, FLOW_CODECS, flow_codec
from flowkit.store.record import RECORD_TYPES, Attributes, Columns
from flowkit.typing import FrameCodec
from flowkit.validate import (
    check_at_least,
    check_choice,
    check_integer,
    check_positive,
    check_range,
    check_that,
)

if TYPE_CHECKING:
    from flowkit.store.codecs.codec import FlowCodec

FORMAT = "flowkit-store"
VERSION = (1, 1)
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
METADATA = "metadata"
CRC32 = "crc32"
FILE_CRC32 = "file_crc32"
RECORD_CRC32 = "record_crc32"

DEFAULT_SHARD_BYTES = 4 << 30
"""Size beyond which a store is a master file and shards, where nothing else is asked for."""

FRAME_CODECS = get_args(FrameCodec)
ENGINE_FAMILIES = ("flowkit", "opencv")
REVISION = "numerics_revision"
FIRST_REVISION = 1

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def _canonical_json(text: str, name: str) -> str:
    """Return JSON text in its one form, so that equal settings are equal text."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        raise InvalidParameterError(f"{name} must be JSON text, got {text!r}") from None
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldOptions:
    """One flow field of a store: its name, and the method and settings that make it."""

    name: str = "flow"
    tvl1_preset: str
    """Name of a preset of the method, or "custom"; "" where it has none."""
    tvl1_params: str
    """JSON text: of TV-L1 its parameters; of another method an object with `method` (its name), `params`,
    `versions` (by package) and for a function of one's own `function` (its qualified name)."""

    def __post_init__(self) -> None:
        reserved = ("frame", "frames", "pts", "videos")
        if not FIELD_NAME.fullmatch(self.name) or self.name in reserved:
            raise InvalidParameterError(
                f"Invalid field name ({self.name!r}). Lower-case letters, digits and _ make one, as in "
                f"'flow_backward'; {reserved} are taken"
            )
        object.__setattr__(self, "tvl1_params", _canonical_json(self.tvl1_params, "tvl1_params"))

    @property
    def method(self) -> str:
        """The name of the method: "tvl1" unless the settings name another."""
        params = json.loads(self.tvl1_params)
        return str(params.get("method", "tvl1")) if isinstance(params, dict) else "tvl1"

    @property
    def summary(self) -> str:
        """The method and its preset in a few words."""
        method = "TV-L1" if self.method == "tvl1" else self.method
        return f"{method} preset {self.tvl1_preset}" if self.tvl1_preset else method


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """Options that decide a store's contents: every file of one store has the same."""

    fields: tuple[FieldOptions, ...]
    step: int = 1
    """Frames from the first to the second of a pair."""
    flow_codec: str = DEFAULT_FLOW_CODEC
    """One of `flowkit.store.codecs.FLOW_CODECS`."""
    bound_px: float = DEFAULT_BOUND_PX
    """Half the range of a bounded codec, px; without effect on the others."""
    frame_codec: str = "jpeg"
    """`jpeg`, or `none`: no frames are stored."""
    jpeg_quality: int = 95
    """Of the frames, 1 to 100."""
    resize: str = "{}"
    """JSON text: mode, size, interpolation."""
    sampling: str = "{}"
    """JSON text: resampling in time and the like."""
    engine_family: str = "flowkit"
    """`flowkit` (cpu and cuda may go on with each other's work) or `opencv`."""
    numerics_revision: int = FIRST_REVISION
    """`flowkit.tvl1.params.NUMERICS_REVISION` of the engine that made the flow; not written while it is the
    first, as the first version wrote none."""

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        in_order = names[:1] == ["flow"] and len(set(names)) == len(names)
        check_that("fields", names, in_order, "distinct with 'flow' first")
        check_at_least("step", self.step, 1)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)
        check_positive("bound_px", self.bound_px)
        check_choice("flow_codec", self.flow_codec, FLOW_CODECS)
        check_choice("frame_codec", self.frame_codec, FRAME_CODECS)
        check_choice("engine_family", self.engine_family, ENGINE_FAMILIES)
        check_integer("numerics_revision", self.numerics_revision, FIRST_REVISION)
        for name in ("resize", "sampling"):
            object.__setattr__(self, name, _canonical_json(getattr(self, name), name))

    @property
    def codec(self) -> FlowCodec:
        """The codec of the flow fields."""
        return flow_codec(self.flow_codec, bound_px=self.bound_px)

    def differences(self, other: StoreOptions) -> list[str]:
        """Return one line an option that differs: its name, the value here (stored) and there (asked)."""
        if self == other:
            return []
        mine, theirs = self.to_attrs(), other.to_attrs()
        if self.codec == other.codec:
            theirs["bound"] = mine["bound"]
        if not self.codec.stores_planes and self.frame_codec == other.frame_codec == "none":
            theirs["jpeg_quality"] = mine["jpeg_quality"]
        for attrs in (mine, theirs):
            attrs.setdefault(REVISION, FIRST_REVISION)
        return [
            f"{name}: stored {mine[name]!r}, asked {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]

    def to_attrs(self) -> Attributes:
        """Return these options as the attributes of a file's root."""
        return dict(_attributes_of(self))

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
                numerics_revision=int(attrs.get(REVISION, FIRST_REVISION)),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise StoreFormatError(f"the options of the store cannot be read: {error}") from error


@functools.lru_cache(maxsize=4)
def _attributes_of(options: StoreOptions) -> Attributes:
    """Return the attributes of `StoreOptions.to_attrs`; the many parts of a store have the same."""
    presets = {field.name: field.tvl1_preset for field in options.fields}
    params = {field.name: json.loads(field.tvl1_params) for field in options.fields}
    later = {} if options.numerics_revision == FIRST_REVISION else {REVISION: options.numerics_revision}
    return {
        "fields": json.dumps(list(presets)),
        "tvl1_preset": json.dumps(presets),
        "tvl1_params": json.dumps(params, sort_keys=True, ensure_ascii=False),
        "step": options.step,
        "flow_codec": options.flow_codec,
        "bound": float(options.bound_px),
        "rounding": "half to even",
        "frame_codec": options.frame_codec,
        "jpeg_quality": options.jpeg_quality,
        "resize": options.resize,
        "sampling": options.sampling,
        "engine_family": options.engine_family,
        **later,
    }


OPTION_TYPES: Columns = {
    name: type(value)
    for name, value in StoreOptions(fields=(FieldOptions(tvl1_preset="", tvl1_params="{}"),))
    .to_attrs()
    .items()
} | {REVISION: int}


INDEX_COLUMNS: Columns = {"id": str, "shard": int, "path": str, **RECORD_TYPES}
FAILURE_COLUMNS: Columns = {
    "source": str,
    "reason": str,
    "detail": str,
    "video_id": str,
    "start_seconds": float,
    "end_seconds": float,
}
LABEL_COLUMNS: Columns = {"label": str}
SHARD_COLUMNS: Columns = {"name": str, "bytes": int, "sha256": str}


def clipped_name(field: str, options: StoreOptions) -> str | None:
    """Return the name of the dataset of how many components of each pair of a flow field saturated.

    None where it has no such dataset: no component can saturate, or a further field has this name.
    """
    name = f"{field}_clipped"
    return name if options.codec.quantizer.saturates and name not in field_names(options) else None


def has_proof(name: str) -> bool:
    """Return whether a 1-D array of a video of this name has its CRC among the group's attributes.

    Times, scales and clipped counts have: nothing else proves them.
    """
    return name == "pts" or name.endswith(("_scale", "_clipped"))


def field_names(options: StoreOptions) -> tuple[str, ...]:
    """Return the names of a store's flow fields, `flow` first."""
    return tuple(field.name for field in options.fields)
