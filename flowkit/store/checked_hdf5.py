"""Reading of untrusted HDF5: whatever a file holds, only FlowkitError is raised.

A store may come from anywhere. Only hard links are followed; every dataset is
checked for its dtype, for storage inside the file and for a size that its stored bytes can have, before
anything of that size is allocated.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import (
    FlowkitError,
    StoreCorruptError,
    StoreFormatError,
    StoreNotFoundError,
    StoreUnreadableError,
)
from flowkit.store import refusals
from flowkit.store.codecs.deflate import MAX_DEFLATE_RATIO
from flowkit.store.record import MAX_ID_BYTES, RECORD_TYPES, Attributes, VideoRecord
from flowkit.store.schema import FORMAT, OPTION_TYPES, VERSION, VIDEOS, StoreOptions

Node: TypeAlias = "h5py.Group | h5py.Dataset"

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_LAYOUTS = {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}
_MAX_ATTRIBUTE_BYTES = 1 << 20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Raised by h5py and NumPy over a malformed file; a bug of ours among them is reported as damage, with
# its message, and chained.
_FOREIGN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
_OTHER_LOCKING = re.compile(r"file locking .*values don't match")


@contextlib.contextmanager
def contained(path: Path | str) -> Iterator[None]:
    """Raise StoreCorruptError for an error of reading, StoreUnreadableError where the system refused it.

    A refusal (permission, memory, a disk, a file in use) says nothing of the contents.
    """
    try:
        yield
    except FlowkitError:
        raise
    except _FOREIGN as error:
        lines = str(error).splitlines()
        said = lines[0] if lines else type(error).__name__
        remedy = refusals.remedy(error)
        if remedy:
            raise StoreUnreadableError(f"{path} cannot be read now ({said}): {remedy}") from error
        raise StoreCorruptError(
            f"{path} is damaged: {said}; `flowkit verify --repair` moves what is broken aside"
        ) from error


def open_file(path: Path) -> h5py.File:
    """Open a file of a store for reading, in this process and others together with plain h5py.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreFormatError
        It is no HDF5 file, no flowkit store, or of a newer format.
    StoreCorruptError
        It is cut short or damaged.
    StoreUnreadableError
        The system does not let it be read now.
    """
    with contained(path):
        if not path.exists():
            raise StoreNotFoundError(f"there is no store at {path}")
        if path.is_file():
            path.open("rb").close()  # HDF5 calls what it may not read no HDF5 file
        if not path.is_file() or not h5py.is_hdf5(path):
            raise StoreFormatError(f"{path} is no HDF5 file, so no flowkit store")
        file = _open(path)
    try:
        with contained(path):
            check_format(file, path)
    except BaseException:  # Ctrl-C too: nothing stays open
        file.close()
        raise
    return file


def _open(path: Path) -> h5py.File:
    """Open a file with the locking of those who have it open in this process, by default h5py's own.

    HDF5 refuses a file whose locking differs from that of an earlier opening. Where there are no locks
    (some network file systems), it is read without.
    """
    for locking in (None, "best-effort", True):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if refusals.number(error) in _NO_LOCKS:
                break
            if not _OTHER_LOCKING.search(str(error)):
                raise
    return h5py.File(path, "r", locking=False)


def open_object(source: BinaryIO) -> h5py.File:
    """Open a store from a file object that can seek, such as fsspec's.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        As `open_file`.
    """
    name = object_name(source)
    with contained(name):
        source.seek(0)
        if source.read(8) != _SIGNATURE:
            raise StoreFormatError(f"{name} is no HDF5 file, so no flowkit store")
        file = h5py.File(source, "r")
    try:
        with contained(name):
            check_format(file, name)
    except BaseException:  # Ctrl-C too: nothing stays open
        file.close()
        raise
    return file


def object_name(source: BinaryIO) -> str:
    """Return the name of a file object for messages: its name or path, or its kind."""
    for attribute in ("full_name", "path", "name"):
        name = getattr(source, attribute, None)
        if isinstance(name, str):
            return name
    return f"<{type(source).__name__}>"


def file_bytes(file: h5py.File) -> int:
    """Return the size of an open file."""
    size: int = file.id.get_filesize()
    return size


def check_format(file: h5py.File, path: Path | str) -> None:
    """Raise StoreFormatError unless the root names a format that this flowkit reads."""
    attrs = read_attrs(file, {"format": str, "format_version": str})
    if attrs.get("format") != FORMAT:
        raise StoreFormatError(
            f"{path} is an HDF5 file but no flowkit store: attribute format is {attrs.get('format')!r}"
        )
    version = str(attrs.get("format_version"))
    major = version.split(".")[0]
    if major != str(VERSION[0]):
        raise StoreFormatError(
            f"{path} has format {version}, this flowkit reads {VERSION[0]}.x; "
            "read it with the flowkit that wrote it, or a newer one"
        )


def read_options(file: h5py.File) -> StoreOptions:
    """Return the options that a file's root holds."""
    return StoreOptions.from_attrs(read_attrs(file, OPTION_TYPES))


def read_attrs(node: Node, wanted: Mapping[str, type]) -> Attributes:
    """Return the wanted attributes that exist and have the wanted type."""
    found: Attributes = {}
    for name, kind in wanted.items():
        encoded = name.encode()
        if not h5py.h5a.exists(node.id, encoded):
            continue
        attribute = h5py.h5a.open(node.id, encoded)
        if attribute.shape != () or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
            continue
        # Not by `node.attrs`, which opens it once more: a part has dozens.
        value: NDArray[Any] = np.empty((), attribute.dtype)
        attribute.read(value)
        text = h5py.check_string_dtype(value.dtype)
        if kind is str and text is not None and text.length is None:
            found[name] = value.item().decode("utf-8", "surrogateescape")
        elif kind in (int, float) and value.dtype.kind in "iuf":
            found[name] = value.item()
    return found


def child(parent: h5py.Group, name: str) -> Node:
    """Return the object `name` below `parent`, following hard links only."""
    node: Node | h5py.Datatype = parent
    file = parent.file.filename
    for segment in name.split("/"):
        if not isinstance(node, h5py.Group):
            raise StoreFormatError(f"{node.name} of {file} is no group")
        link = node.get(segment, getlink=True)
        if link is None:
            raise StoreCorruptError(f"{node.name.rstrip('/')}/{segment} is missing in {file}")
        if not isinstance(link, h5py.HardLink):
            target = getattr(link, "filename", "") + ":" + getattr(link, "path", "")
            raise StoreFormatError(
                f"{node.name.rstrip('/')}/{segment} of {file} is a link to {target}; "
                "a store's data must be in its own files"
            )
        node = node[segment]
    if not isinstance(node, h5py.Group | h5py.Dataset):
        raise StoreFormatError(f"{name} of {file} is neither group nor dataset")
    return node


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return the group `name` below `parent`."""
    node = child(parent, name)
    if not isinstance(node, h5py.Group):
        raise StoreFormatError(f"{node.name} of {parent.file.filename} is no group")
    return node


def check_link(master: h5py.File, video_id: str, shard: Path) -> None:
    """Check that a master's link, which plain h5py would follow, leads to the shard that the index names."""
    parent, _, name = f"{VIDEOS}/{video_id}".rpartition("/")
    link = group(master, parent).get(name, getlink=True)
    expected = f"*.shards/{shard.name}:/{VIDEOS}/{video_id}"
    got = f"{getattr(link, 'filename', '')}:{getattr(link, 'path', '')}"
    folder, _, file_and_path = got.partition("/")
    fits = folder.endswith(".shards") and file_and_path == expected.partition("/")[2]
    if not isinstance(link, h5py.ExternalLink) or not fits:
        raise StoreFormatError(
            f"the link of {video_id!r} in {master.filename} leads to {got}, expected {expected}; "
            "links must not leave the folder of shards"
        )


def dataset(
    parent: h5py.Group, name: str, *, dtype: str | None, shape: tuple[int | None, ...]
) -> h5py.Dataset:
    """Return the dataset `name` below `parent`; its type, storage and size are checked.

    Parameters
    ----------
    dtype
        NumPy's name of the type, as `<u4`; None leaves it to the caller.
    shape
        The expected shape; None stands for any length.
    """
    node = child(parent, name)
    where = f"{node.name} of {parent.file.filename}"
    if not isinstance(node, h5py.Dataset):
        raise StoreFormatError(f"{where} is no dataset")
    if dtype is not None and node.dtype != np.dtype(dtype):
        raise StoreFormatError(f"{where} has type {node.dtype}, expected {dtype}")
    fits = node.shape is not None and len(node.shape) == len(shape)
    if not fits or any(want not in (None, got) for want, got in zip(shape, node.shape, strict=True)):
        raise StoreFormatError(f"{where} has shape {node.shape}, expected {shape} (None: any)")
    _check_storage(node, where)
    return node


def _check_storage(node: h5py.Dataset, where: str) -> None:
    properties = node.id.get_create_plist()
    layout = properties.get_layout()
    if layout not in _LAYOUTS or properties.get_external_count():
        raise StoreFormatError(f"{where} has its data outside the file (external or virtual storage)")
    filters = {properties.get_filter(k)[0] for k in range(properties.get_nfilters())}
    if not filters <= _FILTERS:
        raise StoreFormatError(f"{where} uses filters that no flowkit writes: {sorted(filters - _FILTERS)}")
    if node.size == 0:
        return
    stored, size = node.id.get_storage_size(), node.size * node.dtype.itemsize
    ratio = MAX_DEFLATE_RATIO if h5py.h5z.FILTER_DEFLATE in filters else 1
    # An image may be smaller than a compressed chunk's fixed cost.
    if stored > file_bytes(node.file) or size > ratio * (stored + 64):
        raise StoreCorruptError(f"{where} claims {size} bytes, but {stored} are stored")
    if layout == h5py.h5d.CHUNKED:
        chunk = np.prod(node.chunks, dtype=object) * node.dtype.itemsize
        if chunk > size:
            raise StoreFormatError(f"{where} has chunks of {chunk} bytes, larger than itself")


def read_array(parent: h5py.Group, name: str, *, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return a whole dataset, checked as `dataset` does."""
    values: NDArray[Any] = dataset(parent, name, dtype=dtype, shape=shape)[()]
    return values


def read_record(file: h5py.File, video_id: str) -> VideoRecord:
    """Return the record that the attributes of a video's group hold."""
    attrs = read_attrs(group(file, f"{VIDEOS}/{video_id}"), RECORD_TYPES)
    return VideoRecord.from_attrs(video_id, attrs)


def check_video(file: h5py.File, video_id: str) -> None:
    """Check that a video's group has datasets alone, each with its data inside the file, before it is copied.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        A link, a group or other storage is among them, or a dataset claims more than its bytes can hold.
    """
    video = group(file, f"{VIDEOS}/{video_id}")
    for name in video:
        node, where = child(video, name), f"{video.name}/{name} of {file.filename}"
        if not isinstance(node, h5py.Dataset):
            raise StoreFormatError(f"{where} is a group inside a video")
        _check_storage(node, where)


def video_ids(file: h5py.File) -> list[str]:
    """Return the ids of all videos in a file, by walking its groups.

    Raises
    ------
    StoreFormatError
        Groups form a cycle, or links leave the file.
    """
    found, strays = videos_and_strays(file)
    if strays:
        raise StoreFormatError(f"{next(iter(strays.values()))} ({file.filename})")
    return found


def videos_and_strays(file: h5py.File) -> tuple[list[str], dict[str, str]]:
    """Return the ids of all videos in a file, and what else stands below /videos, by name with the reason."""
    found: list[str] = []
    strays: dict[str, str] = {}
    seen: set[int] = set()
    stack = [(group(file, VIDEOS), "")]
    while stack:
        node, path = stack.pop()
        address = h5py.h5o.get_info(node.id).addr
        if address in seen or len(path.encode()) > MAX_ID_BYTES:
            strays[path[:MAX_ID_BYTES]] = (
                f"the groups below /{VIDEOS} form a cycle at {path[:MAX_ID_BYTES]!r}"
            )
            continue
        seen.add(address)
        if path and "pts" in node:
            found.append(path)
            continue
        # Of two names of one group the first is kept.
        for name in sorted(node, reverse=True):
            below = f"{path}/{name}" if path else name
            try:
                with contained(f"{below!r} of {file.filename}"):
                    inner = child(node, name)
            except StoreUnreadableError:
                raise
            except FlowkitError as error:
                strays[below] = str(error)
                continue
            if isinstance(inner, h5py.Group):
                stack.append((inner, below))
    return sorted(found), strays
