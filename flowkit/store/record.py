"""The record of one video: id, source, counts, solver; and of a source that failed.

It is made of groups of related fields; in a file it is flat, one attribute or column for each field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

from flowkit.errors import InputError, InvalidParameterError, StoreFormatError
from flowkit.validate import check_at_least, check_choice, check_range

Scalar: TypeAlias = str | int | float
Attributes: TypeAlias = dict[str, Scalar]
Columns: TypeAlias = dict[str, type[str] | type[int] | type[float]]


MAX_ID_BYTES = 1024
MAX_SIDE = 65_535
STATUSES = ("ok", "truncated")
# A segment that is empty, "." or "..", or a NUL anywhere.
_BAD = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0")


def check_video_id(video_id: str) -> str:
    """Return `video_id` if it can name a video in a store.

    An id is a relative path of segments joined by `/` ("HandStand/clip_07").

    Raises
    ------
    InvalidParameterError
        It is empty, absolute, too long, not UTF-8, or has a NUL, an empty segment, `.` or `..`.
    """

    def refuse(what: str) -> InvalidParameterError:
        return InvalidParameterError(
            f"video id {video_id!r} {what}; an id is a relative path such as 'HandStand/clip_07'"
        )

    if not isinstance(video_id, str) or not video_id:
        raise refuse("is empty or not a str")
    if video_id.startswith("/"):
        raise refuse("is absolute")
    if _BAD.search(video_id):
        raise refuse("has a NUL, an empty segment, '.' or '..'")
    try:
        size = len(video_id.encode())
    except UnicodeEncodeError:
        raise refuse("is not valid Unicode: pass it through encode_video_id") from None
    if size > MAX_ID_BYTES:
        raise refuse(f"has {size} bytes, more than {MAX_ID_BYTES}")
    return video_id


def encode_video_id(path: str | bytes) -> str:
    """Return a path as text that a store can hold: bytes that are not UTF-8 become `%XX`.

    A path that is valid UTF-8 comes back unchanged; otherwise its literal `%` becomes `%25`.
    """
    try:
        raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = str(path).encode("utf-8", "surrogatepass")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        escaped = raw.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda hit: f"%{ord(hit[0]) - 0xDC00:02X}", escaped)


def check_id_set(ids: Mapping[str, str]) -> None:
    """Raise InputError if one id is a folder of another: HDF5 would nest their groups.

    Parameters
    ----------
    ids
        Each id and its name in the message, such as its source's path.
    """
    for video_id, name in ids.items():
        segments = video_id.split("/")
        for depth in range(1, len(segments)):
            parent = "/".join(segments[:depth])
            if parent in ids:
                raise InputError(
                    f"the id {parent!r} of {ids[parent]} is a folder of the id {video_id!r} of {name}; "
                    "rename one of them or keep the suffixes (--keep-suffix)"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFingerprint:
    """State of a source: size, time and digest, to recognise a changed one."""

    name: str
    """Name of the source; bytes that are not UTF-8 become `%XX`."""
    bytes: int
    mtime_ns: int
    sha256: str = ""
    """Hex digest, or empty where it was not computed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", storable(self.name))

    def matches(self, other: SourceFingerprint) -> bool:
        """Return True if both have the same contents: equal size and time, or else equal digests."""
        if self.bytes != other.bytes:
            return False
        return self.mtime_ns == other.mtime_ns or (bool(self.sha256) and self.sha256 == other.sha256)


@dataclass(frozen=True, kw_only=True)
class StoredVideoShape:
    """Size, counts and frame rate of the stored frames and flow."""

    width: int
    height: int
    """As stored, px."""
    fps: float
    """Average frames per second."""
    n_frames: int
    n_flow: int
    """Flow fields of each kind: n_frames - step."""


@dataclass(frozen=True, kw_only=True)
class SourceShape:
    """Size of the source's frames."""

    source_width: int
    source_height: int
    """Upright, before resizing, px."""
    rotation: int = 0
    """Degrees clockwise that were applied to make the frames upright."""
    mirrored: int = 0
    """1 if the frames were mirrored left to right before that turn, else 0."""
    pixel_aspect: float = 1.0
    """Width of a pixel by its height, upright; frames are stored as coded, not scaled by it."""
    interlaced: int = 0
    """1 if frames, some or all, are coded as two fields, else 0; they are stored as coded."""


@dataclass(frozen=True, kw_only=True)
class SolverRecord:
    """The solver that made the flow, and where it ran."""

    backend: str
    """Name of each engine, `cpu`, `cuda`, `opencv`, `reference` or `imported`, and of each other method."""
    device: str = ""
    """`cpu`, or the name of the GPU."""
    opencv_version: str = ""
    """Of engines and methods that are OpenCV's; "" for others."""
    deviations: str = ""
    """Departures of the backend from the parameters, as text."""


@dataclass(frozen=True, kw_only=True)
class DecodeStatus:
    """Outcome of decoding the source."""

    status: str = "ok"
    """`ok` or `truncated`."""
    status_reason: str = ""
    """Why it is truncated, and notes of the decoder; of a segment whether a reading may resume behind it."""
    skipped_frames: int = 0
    """Packets or images that did not decode."""
    pts_repaired: int = 0
    """Timestamps that were missing or ran backwards and were repaired: their number, or 1 for any."""


@dataclass(frozen=True, kw_only=True)
class FlowRange:
    """Largest flow component, and the fraction that the codec clipped."""

    clipped_fraction: float = 0.0
    """Fraction of the flow components that the codec clipped, in [0, 1]."""
    flow_max_px: float = 0.0
    """Largest absolute flow component before quantisation, px."""


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """The time range that a list asked for, seconds; None: from the source's start, to its end."""

    start_seconds: float | None = None
    end_seconds: float | None = None


SOUND = DecodeStatus()
UNKNOWN_RANGE = FlowRange()
WHOLE_SOURCE = TimeRange()


# The groups have no slots: a class cannot inherit them from several others. Its own cover all fields.
@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRecord(StoredVideoShape, SourceShape, SolverRecord, DecodeStatus, FlowRange, TimeRange):
    """Metadata of one video in a store: the fields of all groups."""

    video_id: str
    label: str = ""
    """Class name; "" without one."""
    source_name: str
    """File name of the source; of a video in an archive or at an address all of its path there."""
    source_bytes: int
    source_mtime_ns: int
    """Modification time, ns since 1970; below 0 a server gave none: a number of its ETag, or -1."""
    source_sha256: str = ""
    """Hex digest, or empty where it was not computed."""

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
        for name in ("width", "height"):
            check_range(name, getattr(self, name), 1, MAX_SIDE, unit="px")
        for name in ("n_frames", "n_flow"):
            check_at_least(name, getattr(self, name), 0)
        check_choice("status", self.status, STATUSES)
        for name in _TEXTS:
            text = getattr(self, name)
            kept = storable(text)
            if (
                kept is not text
            ):  # a few of 200,000: the assignment would take a third of the time of all this
                object.__setattr__(self, name, kept)

    @classmethod
    def of(
        cls,
        video_id: str,
        *,
        label: str = "",
        stored: StoredVideoShape,
        source: SourceFingerprint,
        source_shape: SourceShape,
        solver: SolverRecord,
        decoding: DecodeStatus = SOUND,
        flow_range: FlowRange = UNKNOWN_RANGE,
        times: TimeRange = WHOLE_SOURCE,
    ) -> Self:
        """Return the record made of these groups of fields."""
        values: dict[str, Any] = {}
        for group in (stored, source_shape, solver, decoding, flow_range, times):
            values |= vars(group)
        values |= {name: getattr(source, name.removeprefix("source_")) for name in _OF_SOURCE}
        return cls(video_id=video_id, label=label, **values)

    @property
    def fingerprint(self) -> SourceFingerprint:
        """The state of the source that was extracted."""
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
    def of_values(cls, video_id: str, values: dict[str, Any]) -> Self:
        """Return the record of a video with all attributes, each of its type; a time of NaN becomes None.

        Raises
        ------
        StoreFormatError
            One is out of range.
        """
        for name in ("start_seconds", "end_seconds"):
            if math.isnan(values[name]):
                values[name] = None
        try:
            return cls(video_id=video_id, **values)
        except ValueError as error:
            raise StoreFormatError(f"the attributes of {video_id!r} cannot be read: {error!r}") from error

    @classmethod
    def from_attrs(cls, video_id: str, attrs: Mapping[str, Any]) -> Self:
        """Return the record of a video whose group has the attributes that `to_attrs` wrote.

        Raises
        ------
        StoreFormatError
            An attribute is missing, of another type or out of range.
        """
        try:
            known = {**ADDED_ATTRIBUTES, **attrs}
            flat: dict[str, Any] = {name: kind(known[name]) for name, kind in RECORD_TYPES.items()}
            return cls.of_values(video_id, flat)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StoreFormatError(f"the attributes of {video_id!r} cannot be read: {error!r}") from error


_OF_SOURCE = tuple(f"source_{field.name}" for field in fields(SourceFingerprint))

_KINDS: dict[str, type[str] | type[int] | type[float]] = {
    "str": str,
    "int": int,
    "float": float,
    "float | None": float,
}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(VideoRecord) if field.name != "video_id"}
_ORDER = (
    "label width height source_width source_height rotation fps n_frames n_flow backend device "
    "opencv_version status status_reason skipped_frames pts_repaired source_name source_bytes "
    "source_mtime_ns source_sha256 clipped_fraction flow_max_px deviations start_seconds end_seconds "
    "mirrored pixel_aspect interlaced"
).split()

# Keyed by the fields' own names: those of `_ORDER` are not interned, and a call by keyword took 3 us more.
RECORD_TYPES: Columns = dict(sorted(_TYPES.items(), key=lambda item: _ORDER.index(item[0])))
"""The attributes of a video's group, in order; /index/videos has them as columns after its own."""

_TEXTS = tuple(name for name, kind in RECORD_TYPES.items() if kind is str)

ADDED_ATTRIBUTES: Attributes = {"mirrored": 0, "pixel_aspect": 1.0, "interlaced": 0}
"""Attributes that stores of an earlier flowkit lack, with the value that then holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A source that failed, and why."""

    source: str
    """Path of the source, as it was given."""
    reason: str
    """One of the ledger's reasons: `unopenable`, `too_short`, `worker_died`, ..."""
    detail: str = ""
    """The error's message."""
    video_id: str = ""
    """Id that the video would have had; "" where the source is none by itself."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    """The part of the source that was wanted, s; None is from its start, to its end."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                object.__setattr__(self, field.name, storable(value))
            elif value is not None and math.isnan(value):  # as a store's table has it
                object.__setattr__(self, field.name, None)

    def to_json(self) -> str:
        """Return the failure as one line of the ledger; an id and times that it lacks are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: value for name, value in values.items() if value not in (None, "") or name == "detail"}
        return json.dumps(kept, ensure_ascii=False)


def storable(text: str) -> str:
    """Return text that HDF5 can hold: file names and foreign messages may have any byte."""
    if text.isascii() and "\0" not in text:
        return text
    return encode_video_id(text).replace("\0", " ")
