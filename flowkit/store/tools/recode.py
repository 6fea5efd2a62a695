"""Write a store anew with another flow codec, or without its frames.

Only what changes is decoded: frames are copied as they are stored, and flow too where its codec
stays. A coarser code cannot become finer again: a finer codec keeps the errors of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from flowkit.errors import InputError
from flowkit.store import checked_hdf5
from flowkit.store.codecs import clipped_warning
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.inventory import survey, take_inventory
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.store import Store, open_store
from flowkit.store.record import VideoRecord
from flowkit.store.schema import DEFAULT_SHARD_BYTES, StoreOptions, field_names
from flowkit.store.tools.new_store import new_store, recipe
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter


def recode(
    store: Path | str,
    out: Path | str,
    *,
    flow_codec: str | None = None,
    bound_px: float | None = None,
    drop_frames: bool = False,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    on_video: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
) -> StoreOptions:
    """Write a store anew; return its new options. After a kill or a full disk the same call goes on.

    Parameters
    ----------
    store, out
        The store's file, and the new one's.
    flow_codec
        One of `flowkit.store.codecs.FLOW_CODECS`; without it the codec stays.
    bound_px
        Half the range of a bounded codec, px; without it the store's.
    drop_frames
        Leave the RGB frames out.
    shard_bytes
        Size of the new store's shards, bytes; up to it the store is one file.
    on_video
        Called with the id of each video when it is written.
    on_warning
        Called with a sentence, id first, on each video of which the new codec clips more than
        `flowkit.store.codecs.CLIPPED_WARNING`.

    Raises
    ------
    InputError
        Nothing would change, or another store exists at `out`.
    InvalidParameterError
        There is no such codec, or the bound is not finite and > 0.
    StoreCorruptError
        A stored chunk fails its CRC.
    """
    path = Path(out)
    with open_store(store) as opened:
        options = dataclasses.replace(
            opened.options,
            flow_codec=opened.options.flow_codec if flow_codec is None else flow_codec,
            bound_px=opened.options.bound_px if bound_px is None else bound_px,
            frame_codec="none" if drop_frames else opened.options.frame_codec,
        )
        if not opened.options.differences(options):
            raise InputError(f"{store} is coded like that already: nothing would change")
        if opened.missing_shards:
            raise InputError(f"{store} lacks the shards {', '.join(opened.missing_shards)}; put them back")
        work = recipe("recode", [store], options=options.to_attrs())
        with new_store(path, work, is_made=lambda: _is_made(path, opened, options), goes_on=True) as is_to_do:
            done = take_inventory(survey(path)).records if is_to_do else opened
            for video_id in opened:
                if video_id not in done:
                    record = _recode_video(opened, video_id, options, PartsFolder(path))
                    _warn(record, video_id, options, on_warning)
                    on_video(video_id)
            finalize(
                path,
                options=options,
                labels=opened.labels,
                failures=opened.failures,
                shard_bytes=shard_bytes,
            )
    return options


def _is_made(out: Path, store: Store, options: StoreOptions) -> bool:
    """Return whether the store at `out` has the videos of `store` with these options."""
    found = take_inventory(survey(out))
    if found.options is None or found.options.differences(options) or found.labels != store.labels:
        return False
    # The fraction that was clipped is the codec's.
    before = {k: dataclasses.replace(store[k].record, clipped_fraction=0.0) for k in store}
    return before == {k: dataclasses.replace(r, clipped_fraction=0.0) for k, r in found.records.items()}


def _warn(
    record: VideoRecord, video_id: str, options: StoreOptions, on_warning: Callable[[str], None]
) -> None:
    codec, fraction = options.flow_codec, record.clipped_fraction
    warning = clipped_warning(codec, fraction, largest_px=record.flow_max_px)
    if warning:
        on_warning(f"{video_id}: {warning}")


def _recode_video(store: Store, video_id: str, options: StoreOptions, parts: PartsFolder) -> VideoRecord:
    """Write one video's part; return its record."""
    record = store[video_id].record
    clipped = 0
    with PartWriter(
        parts.part_path(video_id),
        video_id=video_id,
        options=options,
        width=record.width,
        height=record.height,
    ) as writer:
        for pts, data in _frames(store, video_id, options):
            writer.add_frame(pts, data)
        for name in field_names(options):
            for flow in _flow(store, video_id, options, name):
                clipped += flow.clipped or 0
                writer.add_flow(name, flow)
        if store.options.codec != options.codec:
            components = 2 * record.n_flow * record.width * record.height * len(options.fields)
            record = dataclasses.replace(record, clipped_fraction=clipped / max(1, components))
        writer.commit(record)
    return record


def _frames(store: Store, video_id: str, options: StoreOptions) -> Iterator[tuple[float, bytes | None]]:
    with checked_hdf5.contained(f"{video_id!r} of {store.path}"):
        video = store.stored_video(video_id)
        stored = None if options.frame_codec == "none" else video.frames
        for k, pts in enumerate(video.pts.tolist()):
            yield pts, stored[k] if stored else None


def _flow(store: Store, video_id: str, options: StoreOptions, name: str) -> Iterator[EncodedFlow]:
    if store.options.codec == options.codec:
        with checked_hdf5.contained(f"{video_id!r} of {store.path}"):
            yield from store.stored_video(video_id).encoded(name)
        return
    yield from map(options.codec.encode, store[video_id].iter_flow(field=name))
