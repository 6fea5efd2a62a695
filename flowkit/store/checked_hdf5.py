"""Reading of untrusted HDF5: whatever a file holds, only FlowkitError is raised.

A store may come from anywhere. Only hard links are followed; every dataset is
checked for its dtype, for storage inside the file and for a size that its stored bytes can have, before
anything of that size is allocated.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import (
    FlowkitError,
    StoreCorruptError,
    StoreFormatError,
    StoreUnreadableError,
)
from flowkit.remote import Location, is_address
from flowkit.store import refusals
from flowkit.store.codecs.deflate import MAX_DEFLATE_RATIO, crc32
from flowkit.store.record import MAX_ID_BYTES, Attributes
from flowkit.store.schema import CRC32, VIDEOS, has_proof

Node: TypeAlias = "h5py.Group | h5py.Dataset"

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_LAYOUTS = {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}
_MAX_ATTRIBUTE_BYTES = 1 << 20
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


@contextlib.contextmanager
def contained(path: Location | str) -> Iterator[None]:
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
        if is_address(str(path)):
            raise StoreCorruptError(f"{path} is damaged: {said}; put a sound copy there") from error
        raise StoreCorruptError(
            f"{path} is damaged: {said}; `flowkit verify --repair` moves what is broken aside"
        ) from error


def file_bytes(file: h5py.File) -> int:
    """Return the size of an open file."""
    size: int = file.id.get_filesize()
    return size


def read_attrs(node: Node, wanted: Mapping[str, type]) -> Attributes:
    """Return the wanted attributes that exist and have the wanted type.

    Text is read from a heap over which HDF5 may loop for ever where a file is damaged: in this process
    only numbers are wanted, or text that a checksum covers; see `flowkit.store.heap_text`.
    """
    found: Attributes = {}
    for name, kind in wanted.items():
        encoded = name.encode()
        if not h5py.h5a.exists(node.id, encoded):
            continue
        attribute = h5py.h5a.open(node.id, encoded)
        if attribute.shape != () or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
            continue
        # Not by `node.attrs`, which opens it once more: a video has dozens.
        dtype = attribute.dtype
        text = h5py.check_string_dtype(dtype)
        is_text = text is not None and text.length is None
        if not (is_text if kind is str else dtype.kind in "iuf"):
            continue
        value: NDArray[Any] = np.empty((), dtype)
        attribute.read(value)
        found[name] = value.item().decode("utf-8", "surrogateescape") if is_text else value.item()
    return found


def read_number(node: Node, name: str) -> int | None:
    """Return an attribute that is an integer; None where there is none."""
    value = read_attrs(node, {name: int}).get(name)
    return value if isinstance(value, int) else None


def child(parent: h5py.Group, name: str) -> Node:
    """Return the object `name` below `parent`, following hard links only."""
    # By h5py's low-level calls: its objects would take most of the time of a copied or listed video.
    node = parent.id
    for segment in name.split("/"):
        if not isinstance(node, h5py.h5g.GroupID):
            raise StoreFormatError(f"{_place(node)} is no group")
        encoded = segment.encode()
        _check_hard_link(node, encoded)
        node = h5py.h5o.open(node, encoded)
    if isinstance(node, h5py.h5g.GroupID):
        return h5py.Group(node)
    if isinstance(node, h5py.h5d.DatasetID):
        return h5py.Dataset(node)
    raise StoreFormatError(f"{name} of {parent.file.filename} is neither group nor dataset")


def _check_hard_link(parent: h5py.h5g.GroupID, name: bytes) -> None:
    if not parent.links.exists(name):
        raise StoreCorruptError(f"{_named(parent, name)} is missing in {_filename(parent)}")
    if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        link = h5py.Group(parent).get(name.decode(), getlink=True)
        target = getattr(link, "filename", "") + ":" + getattr(link, "path", "")
        raise StoreFormatError(
            f"{_named(parent, name)} of {_filename(parent)} is a link to {target}; "
            "a store's data must be in its own files"
        )


def _filename(node: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> str:
    return str(h5py.h5i.get_file_id(node).name.decode(errors="replace"))


def _named(parent: h5py.h5g.GroupID, name: bytes) -> str:
    whole = (h5py.h5i.get_name(parent) or b"").rstrip(b"/") + b"/" + name
    return whole.decode(errors="replace")


def _place(node: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> str:
    """Return an object's name and file, for a message."""
    name = (h5py.h5i.get_name(node) or b"?").decode(errors="replace")
    return f"{name} of {_filename(node)}"


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return the group `name` below `parent`."""
    node = child(parent, name)
    if not isinstance(node, h5py.Group):
        raise StoreFormatError(f"{node.name} of {parent.file.filename} is no group")
    return node


def check_link(master: h5py.File, video_id: str, shard: Location) -> None:
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
    if not isinstance(node, h5py.Dataset):
        raise StoreFormatError(f"{_place(node.id)} is no dataset")
    if dtype is not None and node.dtype != np.dtype(dtype):
        raise StoreFormatError(f"{_place(node.id)} has type {node.dtype}, expected {dtype}")
    fits = node.shape is not None and len(node.shape) == len(shape)
    if not fits or any(want not in (None, got) for want, got in zip(shape, node.shape, strict=True)):
        raise StoreFormatError(f"{_place(node.id)} has shape {node.shape}, expected {shape} (None: any)")
    _check_storage(node.id, file_bytes(node.file))
    return node


def _check_storage(node: h5py.h5d.DatasetID, most_bytes: int) -> None:
    properties = node.get_create_plist()
    layout = properties.get_layout()
    if layout not in _LAYOUTS or properties.get_external_count():
        raise StoreFormatError(f"{_place(node)} has its data outside the file (external or virtual storage)")
    count = properties.get_nfilters()
    filters = {properties.get_filter(k)[0] for k in range(count)} if count else frozenset()
    if not filters <= _FILTERS:
        unknown = sorted(filters - _FILTERS)
        raise StoreFormatError(f"{_place(node)} uses filters that no flowkit writes: {unknown}")
    itemsize = node.get_type().get_size()
    size = node.get_space().get_simple_extent_npoints() * itemsize
    if size == 0:
        return
    stored = node.get_storage_size()
    ratio = MAX_DEFLATE_RATIO if h5py.h5z.FILTER_DEFLATE in filters else 1
    # An image may be smaller than a compressed chunk's fixed cost.
    if stored > most_bytes or size > ratio * (stored + 64):
        raise StoreCorruptError(f"{_place(node)} claims {size} bytes, but {stored} are stored")
    if layout == h5py.h5d.CHUNKED:
        chunk = math.prod(properties.get_chunk()) * itemsize
        if chunk > size:
            raise StoreFormatError(f"{_place(node)} has chunks of {chunk} bytes, larger than itself")


def read_plain(node: h5py.Dataset) -> NDArray[Any]:
    """Return the values of a dataset that is neither compressed nor divided into chunks.

    Such a dataset is no larger than its file, so that a small hostile file cannot unfold to any size. Its
    attribute `crc32`, which files of format 1.1 have, is checked.

    Raises
    ------
    StoreFormatError
        It is compressed or chunked.
    StoreCorruptError
        Its bytes fail the CRC.
    """
    check_plain(node)
    values: NDArray[Any] = node[()]
    check_plain_crc(node, crc32(values.view(np.uint8).data))
    return values


def check_plain(node: h5py.Dataset) -> None:
    """Raise StoreFormatError for a dataset that is compressed or divided into chunks."""
    if node.id.get_create_plist().get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT):
        raise StoreFormatError(f"{_place(node.id)} is stored in chunks, expected plain bytes")


def check_plain_crc(node: h5py.Dataset, found: int) -> None:
    """Raise StoreCorruptError unless the CRC of a plain dataset's bytes is the one it has, if it has one."""
    expected = read_number(node, CRC32)
    if expected is not None and found != expected:
        raise StoreCorruptError(
            f"{_place(node.id)} fails its CRC; `flowkit verify --repair` makes it anew from what is sound"
        )


def read_array(parent: h5py.Group, name: str, *, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return a whole dataset, checked as `dataset` does."""
    values: NDArray[Any] = dataset(parent, name, dtype=dtype, shape=shape)[()]
    return values


def read_proven(parent: h5py.Group, name: str, *, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Return a whole dataset, checked against the attribute `<name>_crc32` of its group if there is one.

    HDF5's own checksum of such a dataset, Fletcher's, does not distinguish two bytes of 0 from two of 255.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        As `dataset`; or its values fail the CRC.
    """
    values = read_array(parent, name, dtype=dtype, shape=shape)
    expected = read_number(parent, f"{name}_{CRC32}")
    if expected is not None and crc32(values.tobytes()) != expected:
        raise StoreCorruptError(f"{parent.name}/{name} of {parent.file.filename} fails its CRC")
    return values


def read_whole(node: h5py.h5d.DatasetID) -> NDArray[Any]:
    """Return the values of a dataset whose size is known to be small, as `node[()]` does, faster."""
    values = np.empty(node.shape, node.dtype)
    if values.size:
        node.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


class VideoArrays:
    """The arrays of a video's group, each read once, by HDF5's low-level calls: a store has many videos."""

    def __init__(self, group: h5py.Group) -> None:
        self._group, self._id = group, group.id
        self._read: dict[str, NDArray[Any]] = {}

    def values(self, name: str) -> NDArray[Any]:
        """Return the values of a dataset that is small."""
        if name not in self._read:
            self._read[name] = read_whole(self.node(name))
        return self._read[name]

    def node(self, name: str) -> h5py.h5d.DatasetID:
        """Return a dataset."""
        return h5py.h5d.open(self._id, name.encode())

    def proofs_hold(self) -> bool:
        """Return whether each array that has a CRC among the attributes fits it; see `read_proven`.

        Raises
        ------
        StoreFormatError, StoreCorruptError
            Such an array is a link, or not plain values inside the file.
        """
        names = (name.decode() for name in self._id)
        return all(self._fits_proof(name) for name in names if has_proof(name))

    def _fits_proof(self, name: str) -> bool:
        """Return whether an array, of which only the name is known, fits its CRC or has none."""
        proof = f"{name}_{CRC32}"
        if not h5py.h5a.exists(self._id, proof.encode()):
            return True
        _check_hard_link(self._id, name.encode())
        node = self.node(name)
        if len(node.shape) != 1:
            return True  # a flow field may have such a name
        _check_storage(node, file_bytes(self._group.file))
        size = math.prod(node.shape) * node.dtype.itemsize
        if size > node.get_storage_size():  # it would unfold, and to any size
            raise StoreCorruptError(f"{_place(node)} claims {size} bytes, but fewer are stored")
        return crc32(self.values(name).tobytes()) == read_number(self._group, proof)


def check_video(file: h5py.File, video_id: str) -> None:
    """Check that a video's group has datasets alone, each with its data inside the file, before it is copied.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        A link, a group or other storage is among them, or a dataset claims more than its bytes can hold.
    """
    video, most_bytes = group(file, f"{VIDEOS}/{video_id}").id, file_bytes(file)
    for name in video:
        _check_hard_link(video, name)
        node = h5py.h5o.open(video, name)
        if not isinstance(node, h5py.h5d.DatasetID):
            raise StoreFormatError(f"{_place(node)} is a group inside a video")
        _check_storage(node, most_bytes)


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
