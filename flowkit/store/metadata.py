"""The metadata of a file of a store: format, options, class names; of a part its video's record too.

They stand in a file twice, in a part once: the block. `/metadata` is a block of JSON under a checksum,
which every reader here takes. The root's attributes and `/labels` say the same to plain h5py, as str and
numbers; their text lies in a heap without a checksum, where one flipped bit can change a value or have HDF5
loop for ever, so they are not read here. Where the block is damaged they prove themselves by its checksum:
`recover`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit._version import __version__
from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError, StoreUnreadableError
from flowkit.store import checked_hdf5, heap_text, index
from flowkit.store.codecs.deflate import crc32
from flowkit.store.hdf5_file import DatasetCreator, write_attrs
from flowkit.store.record import RECORD_TYPES, Attributes, VideoRecord
from flowkit.store.schema import (
    CRC32,
    FORMAT,
    LABELS,
    METADATA,
    NEXT_SHARD,
    OPTION_TYPES,
    RECORD_CRC32,
    VERSION,
    VIDEOS,
    StoreOptions,
    has_proof,
)

_IDENTITY = {"format": str, "format_version": str, "flowkit_version": str, "uuid": str, "created": str}
_ROOT_TYPES: Mapping[str, type] = {**_IDENTITY, **OPTION_TYPES, NEXT_SHARD: int}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The metadata of one file."""

    options: StoreOptions
    labels: tuple[str, ...] = ()
    """Class names in order; none in a part."""
    records: Mapping[str, VideoRecord] = dataclasses.field(default_factory=dict)
    """Of a part or a segment: its video; other files have an index."""
    next_shard: int | None = None
    """Of a master: the number of the next shard."""
    format_version: str = "{}.{}".format(*VERSION)
    flowkit_version: str = __version__
    """Of the flowkit that wrote the file."""
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    created: str = dataclasses.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """Time of its making, ISO 8601 in UTC."""

    def to_attrs(self) -> Attributes:
        """Return the attributes of the file's root."""
        own: Attributes = {"format": FORMAT}
        own |= {name: getattr(self, name) for name in _IDENTITY if name != "format"}
        if self.next_shard is not None:
            own[NEXT_SHARD] = self.next_shard
        return own | self.options.to_attrs()

    @classmethod
    def from_attrs(
        cls,
        attrs: Mapping[str, Any],
        labels: tuple[str, ...],
        records: Mapping[str, VideoRecord] = MappingProxyType({}),
    ) -> Self:
        """Return the metadata whose attributes `to_attrs` wrote.

        Raises
        ------
        StoreFormatError
            A value is missing, of another type or out of range.
        """
        next_shard = attrs.get(NEXT_SHARD)
        return cls(
            # Without the file's own uuid and time, or no two would be the same.
            options=_options_of(*((name, attrs[name]) for name in OPTION_TYPES if name in attrs)),
            labels=labels,
            records=records,
            next_shard=next_shard if isinstance(next_shard, int) else None,
            **{name: str(attrs.get(name, "")) for name in _IDENTITY if name != "format"},
        )


def write_metadata(file: h5py.File, metadata: Metadata, *, attributes: bool = True) -> None:
    """Write the block, and the root's attributes for plain h5py unless they are left out, as in parts."""
    attrs = metadata.to_attrs()
    records = {video_id: record.to_attrs() for video_id, record in metadata.records.items()}
    block = _block(attrs, metadata.labels, records)
    made = DatasetCreator(file).array(METADATA, np.frombuffer(block, np.uint8))
    write_attrs(h5py.Dataset(made), {CRC32: crc32(block)})
    if attributes:
        write_attrs(file, attrs)


def read_metadata(file: h5py.File) -> Metadata:
    """Return the metadata of a file.

    Raises
    ------
    StoreFormatError
        It is no flowkit store, of a newer format, or malformed.
    StoreCorruptError
        The block fails its CRC; of format 1.0: HDF5 does not come to an end with the attributes.
    """
    if METADATA not in file:
        return _of_format_1_0(file, index.read_labels(file) if LABELS in file else ())  # a part has none
    node = checked_hdf5.dataset(file, METADATA, dtype="u1", shape=(None,))
    text = checked_hdf5.read_plain(node).tobytes()
    try:
        values = json.loads(text)
        attrs, labels = values["attributes"], tuple(map(str, values["labels"]))
        records = values["videos"].items()
        _check_format(attrs, file)
        return Metadata.from_attrs(attrs, labels, {k: VideoRecord.from_attrs(k, v) for k, v in records})
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, StoreFormatError):
            raise
        raise StoreFormatError(f"/{METADATA} of {file.filename} cannot be read: {error!r}") from error


def recover(file: h5py.File) -> tuple[Metadata, str]:
    """Return the metadata of a file, and what is wrong with its block; "" for nothing.

    Attributes and class names that the block's checksum proves take the place of a damaged block; class
    names of format 1.0 that cannot be read are left out.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        As `read_metadata`, where the attributes are damaged too.
    """
    try:
        return read_metadata(file), ""
    except StoreUnreadableError:
        raise
    except StoreError as error:
        try:
            return _proven_copy(file) if METADATA in file else _of_format_1_0(file, ()), str(error)
        except StoreUnreadableError:
            raise
        except StoreError:
            raise error from None


def write_record(group: h5py.Group, record: VideoRecord, proofs: Attributes) -> None:
    """Write a video's record as attributes of its group, with their CRC and the `proofs` of its arrays."""
    attrs = record.to_attrs()
    write_attrs(group, {**attrs, RECORD_CRC32: _record_crc(attrs), **proofs})


def proofs_of(arrays: Mapping[str, NDArray[np.number]]) -> Attributes:
    """Return the CRC of each array of a video that has one among the attributes: see `has_proof`."""
    return {f"{name}_{CRC32}": crc32(values.tobytes()) for name, values in arrays.items() if has_proof(name)}


def read_proofs(group: h5py.Group) -> Attributes:
    """Return what a video's group has of `proofs_of`, to go with a copy; nothing in format 1.0."""
    return checked_hdf5.read_attrs(group, {f"{name}_{CRC32}": int for name in _proven(group)})


def read_records(file: h5py.File, video_ids: list[str]) -> dict[str, VideoRecord | StoreError]:
    """Return the records in the attributes of videos' groups, or why one cannot be read.

    Slow, since their text may be damaged: for files of format 1.0, and where the index is damaged.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        HDF5 does not come to an end with them, or a group is missing.
    """
    names = [f"{VIDEOS}/{video_id}" for video_id in video_ids]
    wanted = {**RECORD_TYPES, RECORD_CRC32: int}
    found: dict[str, VideoRecord | StoreError] = {}
    for video_id, attrs in zip(video_ids, _attributes(file, names, wanted), strict=True):
        try:
            record = VideoRecord.from_attrs(video_id, attrs)
        except StoreError as error:
            found[video_id] = error
            continue
        expected = attrs.get(RECORD_CRC32)
        if expected is None or expected == _record_crc(record.to_attrs()):
            found[video_id] = record
        else:
            found[video_id] = StoreCorruptError(f"the attributes of {video_id!r} fail their CRC")
    return found


def wrong_attributes(file: h5py.File, metadata: Metadata) -> list[str]:
    """Return the names of the root's attributes that differ from the block's."""
    expected = metadata.to_attrs()
    found = _attributes(file, ["/"], {name: type(value) for name, value in expected.items()})[0]
    return [name for name, value in expected.items() if found.get(name) != value]


@functools.lru_cache(maxsize=4)
def _options_of(*attrs: tuple[str, Any]) -> StoreOptions:
    """Return the options of a root's attributes; the many parts of a store have the same."""
    return StoreOptions.from_attrs(dict(attrs))


def _block(attrs: Attributes, labels: tuple[str, ...], records: Mapping[str, Attributes]) -> bytes:
    values = {"attributes": attrs, "labels": labels, "videos": records}
    return json.dumps(values, sort_keys=True).encode()


def _proven(group: h5py.Group) -> list[str]:
    names = [name for name in group if has_proof(name)]
    # A flow field may have such a name.
    return [name for name in names if len(h5py.h5d.open(group.id, name.encode()).shape) == 1]


def _record_crc(attrs: Attributes) -> int:
    return crc32(json.dumps(attrs, sort_keys=True).encode())


def _proven_copy(file: h5py.File) -> Metadata:
    """Return the metadata of the root's attributes and `/labels`, if the block's checksum is theirs."""
    node = checked_hdf5.dataset(file, METADATA, dtype="u1", shape=(None,))
    attrs = _attributes(file, ["/"], _ROOT_TYPES)[0]
    labels = index.read_labels(file)
    if checked_hdf5.read_number(node, CRC32) != crc32(_block(attrs, labels, {})):
        raise StoreCorruptError(f"neither /{METADATA} nor the attributes of {file.filename} hold")
    return Metadata.from_attrs(attrs, labels)


def _of_format_1_0(file: h5py.File, labels: tuple[str, ...]) -> Metadata:
    attrs = _attributes(file, ["/"], _ROOT_TYPES)[0]
    _check_format(attrs, file)
    return Metadata.from_attrs(attrs, labels)


def _attributes(file: h5py.File, nodes: list[str], wanted: Mapping[str, type]) -> list[Attributes]:
    """Return attributes with text, which a process reads that can be ended."""
    if file.driver != "sec2":  # a file object, which no other process has: read here, come what may
        return [
            checked_hdf5.read_attrs(file if name == "/" else checked_hdf5.child(file, name), wanted)
            for name in nodes
        ]
    path = Path(file.filename)
    if nodes == ["/"]:
        return [heap_text.root_attributes(path, wanted)]
    return heap_text.read_attributes(path, nodes, wanted)


def _check_format(attrs: Mapping[str, Any], file: h5py.File) -> None:
    """Raise StoreFormatError unless the root names a format that this flowkit reads."""
    if attrs.get("format") != FORMAT:
        raise StoreFormatError(
            f"{file.filename} is an HDF5 file but no flowkit store: its format is {attrs.get('format')!r}"
        )
    version = str(attrs.get("format_version"))
    if version.split(".")[0] != str(VERSION[0]):
        raise StoreFormatError(
            f"{file.filename} has format {version}, this flowkit reads {VERSION[0]}.x; "
            "read it with the flowkit that wrote it, or a newer one"
        )
