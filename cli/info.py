"""`flowkit info`: contents of a store."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from flowkit.validate import cut

from .options import StorePath
from .streams import echo

if TYPE_CHECKING:
    from flowkit.remote import Location
    from flowkit.store.read.store import Clip, Store, StoreInfo

Item = TypeVar("Item")

_MOST_COUNTS = 1000
_MOST_LINES = 1000
"""Of labels, failures and missing shards that are shown: a store from elsewhere may have millions."""


@click.command("info")
@click.argument("store", type=StorePath(path_type=Path))
@click.argument("video_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(store: Location, video_id: str | None, as_json: bool) -> None:
    """Show options, counts, labels and failures of STORE; or all of one video VIDEO_ID.

    STORE is a file or an address such as s3://bucket/out.h5.
    """
    from flowkit.store.read.store import open_store

    with open_store(store) as opened:
        if video_id is None:
            described, lines = _store_as_dict(opened), _store_lines(opened)
        else:
            clip = opened[video_id]
            described, lines = _clip_as_dict(clip), _clip_lines(clip)
        if as_json:
            click.echo(json.dumps(described, ensure_ascii=False))
        else:
            echo("\n".join(lines))


def _store_as_dict(store: Store) -> dict[str, object]:
    return {
        **dataclasses.asdict(store.info()),
        "labels": store.labels,
        "failures": [dataclasses.asdict(failure) for failure in store.failures],
        "videos": list(store),
    }


def _clip_as_dict(clip: Clip) -> dict[str, object]:
    return {**dataclasses.asdict(clip.record), "pts": clip.pts.tolist()}


def _store_lines(store: Store) -> Iterator[str]:
    info = store.info()
    mib = info.bytes / 2**20
    files = f"{len(info.shards)} shards" if info.shards else "one file"
    yield f"{info.path}: {info.n_videos} videos, {info.n_frames} frames, {mib:.1f} MiB in {files}"
    yield from _option_lines(info)
    yield _counted("status", info.per_status)
    yield _counted("backend", info.per_backend)
    yield f"  largest flow   {info.flow_max_px:.1f} px"
    yield _counted(f"labels ({len(store.labels)})", info.per_label)
    yield from _first(info.missing_shards, lambda shard: f"  MISSING SHARD  {shard}")
    if store.failures:
        yield f"  failures       {len(store.failures)}"
    yield from _first(store.failures, lambda failure: f"    {failure.reason:16} {failure.source}")


def _first(items: Sequence[Item], line: Callable[[Item], str]) -> Iterator[str]:
    """Yield the lines of the first items and, of the others, their number."""
    yield from map(line, items[:_MOST_LINES])
    if len(items) > _MOST_LINES:
        yield f"    and {len(items) - _MOST_LINES} more; --json has all"


def _option_lines(info: StoreInfo) -> Iterator[str]:
    options = info.options
    for field in options.fields:
        yield f"  field          {field.name}: {field.summary}, step {options.step}"
    bound = f", bound {options.bound_px:g} px" if options.codec.bounded else ""
    yield f"  flow codec     {options.flow_codec}{bound}"
    quality = f", quality {options.jpeg_quality}" if options.frame_codec == "jpeg" else ""
    yield f"  frames         {options.frame_codec}{quality}"
    yield f"  resize         {options.resize}"
    yield f"  sampling       {options.sampling}"
    yield f"  made           {info.created} by flowkit {info.flowkit_version}, format {info.format_version}"


def _counted(name: str, counts: Mapping[str, int]) -> str:
    first = itertools.islice(counts.items(), _MOST_COUNTS)
    shown = ", ".join(f"{cut(key) or '(none)'} {count}" for key, count in first)
    more = f", and {len(counts) - _MOST_COUNTS} more; --json has all" if len(counts) > _MOST_COUNTS else ""
    return f"  {name:14} {shown or '-'}{more}"


def _clip_lines(clip: Clip) -> Iterator[str]:
    for name, value in _clip_as_dict(clip).items():
        if name == "pts":
            times = clip.pts
            value = f"{times[0]:.3f} s to {times[-1]:.3f} s" if len(times) else "-"
        yield f"{name:16} {'' if value is None else value}"
