"""Sound little stores to damage: single and sharded, of each codec, with text that is not ASCII."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowkit import jpeg
from flowkit.extraction.config import ExtractConfig, store_options
from flowkit.resize_rule import ResizeRule
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.store import open_store
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import StoreOptions, field_names
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter
from flowkit.tvl1.params import resolve_params
from tests.make import clips
from tests.make.stores import Flow

CODECS = ("i8", "i16", "jpeg")
STORE = "out.h5"
HEIGHT, WIDTH = 26, 34
MTIME_NS = 1_700_000_000_000_000_000
STORED, NEW, OTHER = "été/g1_ü", "neu/clip", "walk/g9_c9"
"""A stored video whose source is there, one that is not stored yet, and the only one of another store."""

_FRAMES = {"跑步/g1_c1": 6, "跑步/g2_c1": 8, STORED: 7, "été/g2_c3": 10}
_LABELS = ("walk", "été", "跑步")  # not sorted, and one has no video: what the videos do not say
_FAILURES = (
    Failure(source="kaputt/дом.avi", reason="unopenable", detail="moov atom not found: ошибка"),
    Failure(source="a.mp4", reason="too_short", detail="1 frame", video_id="walk/a", start_seconds=1.5),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """A sound store: its name, its codec, its files, and the videos of each."""

    name: str
    codec: str
    folder: Path
    """Holds the store's files only."""
    files: Mapping[str, bytes]
    """Contents by path below the folder; the store itself first."""
    videos: Mapping[str, tuple[str, ...]]
    """Ids of each file that has videos."""

    @property
    def store(self) -> Path:
        return self.folder / STORE

    @property
    def other(self) -> Path:
        """A sound store of the same options with one other video."""
        return self.folder.with_name(f"other-{self.codec}.h5")

    @property
    def sources(self) -> Path:
        """A folder of two videos: `STORED` and `NEW`."""
        return self.folder.with_name("videos")


def config_of(codec: str) -> ExtractConfig:
    """The choices by which an extraction goes on with a base of this codec."""
    return ExtractConfig(
        resize=ResizeRule(mode="native"),
        params=resolve_params("fast"),
        backend="opencv",  # there where no compiler is
        flow_codec=codec,
        backward=codec == "i8",
        jobs=1,
    )


def make_bases(folder: Path) -> list[Base]:
    """Write all bases; those of two runs differ in their time and UUID alone."""
    sources = _write_sources(folder / "videos")
    for codec in CODECS:
        single = folder / f"{codec}-single" / STORE
        _write(single, codec, sources, ids=tuple(_FRAMES))
        _write(folder / f"other-{codec}.h5", codec, sources, ids=(OTHER,))
        _write(
            folder / f"{codec}-sharded" / STORE,
            codec,
            sources,
            ids=tuple(_FRAMES),
            shard_bytes=single.stat().st_size // 2,
        )
    return load_bases(folder)


def load_bases(folder: Path) -> list[Base]:
    """Return the bases that `make_bases` wrote into a folder."""
    return [
        _load(folder / f"{codec}-{layout}", codec) for codec in CODECS for layout in ("single", "sharded")
    ]


def _load(folder: Path, codec: str) -> Base:
    shards = sorted((folder / f"{STORE}.shards").glob("*.h5"))
    paths = [folder / STORE, *shards]
    return Base(
        name=folder.name,
        codec=codec,
        folder=folder,
        files={str(path.relative_to(folder)): path.read_bytes() for path in paths},
        videos={str(path.relative_to(folder)): _ids(path) for path in shards or paths},
    )


def _ids(path: Path) -> tuple[str, ...]:
    with open_store(path) as store:
        return tuple(store)


def _write_sources(folder: Path) -> dict[str, os.stat_result]:
    """Write the videos from which an extraction goes on; return the state of their files."""
    found = {}
    for seed, name in enumerate((STORED, NEW)):
        path = folder / f"{name}.mkv"
        path.parent.mkdir(parents=True)
        clips.lossless_mkv(path, clips.moving_texture(6, height=HEIGHT, width=WIDTH, seed=seed))
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
        found[name] = path.stat()
    return found


def _write(
    path: Path,
    codec: str,
    sources: Mapping[str, os.stat_result],
    *,
    ids: tuple[str, ...],
    shard_bytes: int = 1 << 30,
) -> None:
    options = store_options(config_of(codec), backend="opencv")
    parts = PartsFolder(path)
    for seed, video_id in enumerate(ids):
        part = parts.part_path(video_id)
        part.parent.mkdir(parents=True, exist_ok=True)
        source = sources.get(video_id)
        record = _record(
            video_id, _FRAMES.get(video_id, 4), 1000 + seed if source is None else source.st_size
        )
        _write_part(part, record, options, seed)
    finalize(path, options=options, labels=_LABELS, failures=_FAILURES, shard_bytes=shard_bytes)


def _record(video_id: str, n_frames: int, source_bytes: int) -> VideoRecord:
    truncated = video_id == "été/g2_c3"
    return VideoRecord(
        video_id=video_id,
        label=video_id.split("/")[0],
        width=WIDTH,
        height=HEIGHT,
        source_width=WIDTH,
        source_height=HEIGHT,
        fps=25.0,
        n_frames=n_frames,
        n_flow=n_frames - 1,
        backend="opencv",
        device="cpu",
        status="truncated" if truncated else "ok",
        status_reason="Ende fehlt: конец" if truncated else "",
        source_name=f"{video_id.split('/')[1]}.mkv",
        source_bytes=source_bytes,
        source_mtime_ns=MTIME_NS,
        flow_max_px=6.5,
    )


def _write_part(path: Path, record: VideoRecord, options: StoreOptions, seed: int) -> None:
    texture = clips.moving_texture(record.n_frames, height=HEIGHT, width=WIDTH, seed=seed)
    with PartWriter(path, video_id=record.video_id, options=options, width=WIDTH, height=HEIGHT) as writer:
        for k, frame in enumerate(texture):
            writer.add_frame(k / 25, jpeg.encode(frame))
        for number, name in enumerate(field_names(options)):
            for flow in waves(record.n_flow, phase=seed + 7 * number):
                writer.add_flow(name, options.codec.encode(flow))
        writer.commit(record)


def waves(n: int, *, phase: float) -> Flow:
    """Smooth flow that no two fields have alike, float32 (n, 2, HEIGHT, WIDTH), within 6.5 px."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 6
    fields = [[np.sin(x + phase + k), np.cos(y - phase - k / 2)] for k in range(n)]
    return 6.5 * np.array(fields, np.float32)
