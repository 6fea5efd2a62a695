"""Tiny videos for the store's tests: smooth random flow, noisy frames, all made from a seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions, field_names
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

WIDTH, HEIGHT = 20, 12
N_FRAMES = 4

MakePart: TypeAlias = Callable[..., VideoRecord]
MakeStore: TypeAlias = Callable[..., Path]


def make_options(**changes: object) -> StoreOptions:
    field = FieldOptions(tvl1_preset="fast", tvl1_params='{"tau": 0.25}')
    return replace(StoreOptions(fields=(field,)), **changes)  # type: ignore[arg-type]


def make_flow(seed: int, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 4, (count, 2, HEIGHT, WIDTH)).astype(np.float32)


def make_frames(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def make_record(video_id: str, **changes: object) -> VideoRecord:
    record = VideoRecord(
        video_id=video_id,
        label=video_id.rpartition("/")[0],
        width=WIDTH,
        height=HEIGHT,
        source_width=40,
        source_height=24,
        fps=25.0,
        n_frames=N_FRAMES,
        n_flow=N_FRAMES - 1,
        backend="cpu",
        device="a CPU",
        source_name=f"{video_id}.avi",
        source_bytes=1000,
        source_mtime_ns=1_700_000_000_123_456_789,
        source_sha256="0" * 64,
        flow_max_px=12.5,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def write_part(
    path: Path, record: VideoRecord, options: StoreOptions, *, seed: int = 0, first_pts: float = 0.0
) -> VideoRecord:
    """Commit one video: field f of pair k is make_flow(seed + f)[k], frame k make_frames(seed)[k]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = make_frames(seed, record.n_frames)
    with PartWriter(
        path, video_id=record.video_id, options=options, width=record.width, height=record.height
    ) as writer:
        for k in range(record.n_frames):
            kept = options.frame_codec == "jpeg"
            writer.add_frame(
                first_pts + k / 25, jpeg.encode(frames[k], options.jpeg_quality) if kept else None
            )
        for offset, name in enumerate(field_names(options)):
            for flow in make_flow(seed + offset, record.n_flow):
                coded = options.codec.encode(flow)
                writer.add_flow(name, coded)
        writer.commit(record)
    return record


@pytest.fixture
def options() -> StoreOptions:
    return make_options()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "out.h5"


@pytest.fixture
def make_part(store_path: Path, options: StoreOptions) -> MakePart:
    """Commit the part of one video of the store at `store_path`."""

    def make(
        video_id: str, *, options: StoreOptions = options, seed: int = 0, **changes: object
    ) -> VideoRecord:
        record = make_record(video_id, **changes)
        return write_part(PartsFolder(store_path).part_path(video_id), record, options, seed=seed)

    return make


@pytest.fixture
def make_store(store_path: Path, make_part: MakePart, options: StoreOptions) -> MakeStore:
    """Make a finished store of videos; video k has seed k. `shard_bytes=1` gives each its own shard."""

    def make(*ids: str, options: StoreOptions = options, shard_bytes: int = 1 << 30) -> Path:
        for seed, video_id in enumerate(ids):
            make_part(video_id, options=options, seed=seed)
        finalize(store_path, options=options, shard_bytes=shard_bytes)
        return store_path

    return make


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: that syncs happen, and when, is tested by what they are replaced with."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
