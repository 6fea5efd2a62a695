"""A small store of labelled clips: field k of a clip is k px everywhere, frame k is grey 10 k."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from flowkit import jpeg
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

WIDTH, HEIGHT = 24, 16
MakeStore: TypeAlias = Callable[..., Path]


def make_options(**changes: object) -> StoreOptions:
    field = FieldOptions(tvl1_preset="fast", tvl1_params="{}")
    return replace(StoreOptions(fields=(field,)), **changes)  # type: ignore[arg-type]


def make_record(video_id: str, n_frames: int, size: tuple[int, int]) -> VideoRecord:
    return VideoRecord(
        video_id=video_id,
        label=video_id.rpartition("/")[0],
        width=size[0],
        height=size[1],
        source_width=size[0],
        source_height=size[1],
        fps=25.0,
        n_frames=n_frames,
        n_flow=n_frames - 1,
        backend="cpu",
        source_name=f"{video_id}.avi",
        source_bytes=1,
        source_mtime_ns=1,
    )


def write_clip(
    path: Path, video_id: str, options: StoreOptions, n_frames: int, size: tuple[int, int]
) -> None:
    width, height = size
    columns = np.arange(width, dtype=np.float32) / 8  # a window shows where it was cut
    with PartWriter(path, video_id=video_id, options=options, width=width, height=height) as writer:
        for k in range(n_frames):
            image = np.full((height, width, 3), min(10 * k, 255), np.uint8)
            kept = options.frame_codec == "jpeg"
            writer.add_frame(k / 25, jpeg.encode(image) if kept else None)
        for k in range(n_frames - 1):
            flow = np.stack([np.full((height, width), k, np.float32), np.tile(columns, (height, 1))])
            coded = options.codec.encode(flow)
            writer.add_flow("flow", coded)
        writer.commit(make_record(video_id, n_frames, size))


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Make a store of clips with these ids and numbers of frames."""

    def make(
        n_frames: dict[str, int], *, sizes: dict[str, tuple[int, int]] | None = None, **options: object
    ) -> Path:
        path = tmp_path / "out.h5"
        parts = PartsFolder(path)
        parts.path.mkdir()
        chosen = make_options(**options)
        for video_id, count in n_frames.items():
            size = (sizes or {}).get(video_id, (WIDTH, HEIGHT))
            write_clip(parts.part_path(video_id), video_id, chosen, n_frames=count, size=size)
        finalize(path, options=chosen)
        return path

    return make
