"""All values of a store by name, as text: those of flowkit's reader and of plain h5py, to compare stores."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

import flowkit
from flowkit import AccessMethod, FlowkitError

Values = dict[str, str]
"""A value, or its digest, by its name: `labels`, `video/<id>:flow[3]`, `/videos/<id>/pts`."""

_MOST_ITEMS = 64
"""Fields and frames read of a video: a damaged count may be any."""
_MOST_OBJECTS, _MOST_DEPTH, _MOST_BYTES = 2000, 12, 64 << 20
_INFO = ("format_version", "flowkit_version", "uuid", "created")


def reader_values(source: Path | BinaryIO, *, access: AccessMethod = "auto") -> Values:
    """Return what flowkit's reader gives; a value that it refuses to read is left out.

    Raises
    ------
    FlowkitError
        The store cannot be opened.
    """
    values: Values = {}
    with flowkit.open(source, access=access) as store:
        values |= {"labels": repr(store.labels), "ids": repr(tuple(store)), "options": repr(store.options)}
        values |= {"failures": repr(store.failures)}
        with contextlib.suppress(FlowkitError):
            info = store.info()
            values |= {f"info.{name}": repr(getattr(info, name)) for name in _INFO}
        for video_id, clip in store.items():
            with contextlib.suppress(FlowkitError):
                values |= {f"video/{video_id}:{name}": value for name, value in _clip_values(clip)}
    return values


def _clip_values(clip: flowkit.Clip) -> Iterator[tuple[str, str]]:
    """Yield the values of a video; each that cannot be read is left out."""
    with contextlib.suppress(FlowkitError):
        for name, value in dataclasses.asdict(clip.record).items():
            yield f"record.{name}", repr(value)
    yield from _read("pts", lambda: digest(clip.pts))
    for name in clip.fields:
        yield from _read(f"{name}_clipped", lambda name=name: _clipped(clip, name))  # type: ignore[misc]
        for k in range(min(clip.n_flow, _MOST_ITEMS)):
            yield from _read(f"{name}[{k}]", lambda k=k, name=name: _field(clip, k, name))  # type: ignore[misc]
    for k in range(min(clip.n_frames, _MOST_ITEMS)):
        yield from _read(f"frame[{k}]", lambda k=k: digest(clip.frames([k])))  # type: ignore[misc]


def _clipped(clip: flowkit.Clip, name: str) -> str:
    counts = clip.clipped(field=name)
    return "unknown" if counts is None else digest(counts)


def _field(clip: flowkit.Clip, index: int, name: str) -> str:
    codes, scales = clip.codes(index, index + 1, field=name)
    return f"{digest(codes)} {scales.tolist()}"


def _read(name: str, read: Callable[[], str]) -> Iterator[tuple[str, str]]:
    try:
        yield name, read()
    except FlowkitError:
        return


def plain_values(path: Path) -> Values:
    """Return all attributes, links and datasets that h5py alone reads; what it cannot read is left out.

    Raises
    ------
    OSError
        HDF5 cannot open the file.
    """
    values: Values = {}
    with h5py.File(path, locking="best-effort") as file:
        _add_node(values, file, "", _MOST_DEPTH)
    return values


def _add_node(values: Values, node: h5py.HLObject, name: str, depth: int) -> None:
    _add_attributes(values, node, name)
    if isinstance(node, h5py.Dataset):
        _add_plain(values, name, lambda: _dataset(node))
        return
    if not isinstance(node, h5py.Group) or not depth:
        return
    for key in _keys(node):
        path = f"{name}/{key}"
        if len(values) > _MOST_OBJECTS:
            return
        _add_plain(values, f"{path} link", lambda key=key: _link(node, key))  # type: ignore[misc]
        child = None
        with contextlib.suppress(Exception):  # h5py raises errors of many kinds over a damaged object
            child = node[key]
        if child is not None:
            _add_node(values, child, path, depth - 1)


def _add_attributes(values: Values, node: h5py.HLObject, name: str) -> None:
    try:
        keys = list(node.attrs)
    except Exception:  # of any kind, as above
        return
    for key in keys:
        _add_plain(values, f"{name or '/'}@{key}", lambda key=key: repr(node.attrs[key]))  # type: ignore[misc]


def _keys(group: h5py.Group) -> list[str]:
    try:
        return list(group)
    except Exception:  # of any kind, as above
        return []


def _add_plain(values: Values, name: str, read: Callable[[], str]) -> None:
    with contextlib.suppress(Exception):  # of any kind, as above
        values[name] = read()


def _link(group: h5py.Group, key: str) -> str:
    link = group.get(key, getlink=True)
    return f"{type(link).__name__} {getattr(link, 'filename', '')} {getattr(link, 'path', '')}"


def _dataset(dataset: h5py.Dataset) -> str:
    shape = f"{dataset.dtype} {dataset.shape}"
    if dataset.nbytes > _MOST_BYTES:
        return shape
    data = dataset[()]
    if dataset.dtype.hasobject:
        return f"{shape} {data.tolist()!r}"
    return f"{shape} {digest(np.asarray(data))}"


def digest(array: NDArray[Any]) -> str:
    """Return text that two arrays share if dtype, shape and bytes are the same."""
    return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def changed(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the names whose values differ, and those that nothing should have."""
    return sorted(name for name, value in found.items() if expected.get(name) != value)


def lost(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the names whose values could not be read."""
    return sorted(expected.keys() - found.keys())


def changed_in_videos(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the names of changed values of those videos that are expected; none where nothing is."""
    known = of_videos(expected)
    ids = {name.partition(":")[0] for name in known}
    own = {name: value for name, value in of_videos(found).items() if name.partition(":")[0] in ids}
    return changed(known, own)


def of_videos(values: Mapping[str, str]) -> Values:
    """Return the values of videos alone, without those that a copy may make anew."""
    return {
        name: value
        for name, value in values.items()
        if name.startswith("video/") and not name.endswith(("clipped_fraction", "_clipped"))
    }


def kind_of(name: str) -> str:
    """Return the kind of a value: `flow`, `frame`, `record.label`, `labels`, `/videos@`, ..."""
    if name.startswith("video/"):
        return name.rpartition(":")[2].partition("[")[0]
    return name.split("/")[1] if name.startswith("/") and name.count("/") > 1 else name
