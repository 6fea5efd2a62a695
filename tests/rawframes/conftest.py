"""Small stores to export, made without a solver, and the runs that need no worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.executor import InlineExecutor
from flowkit.quantize import quantize_u8
from flowkit.rawframes import export, importer
from flowkit.rawframes.export import ExportConfig
from flowkit.rawframes.import_config import ImportConfig
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions, field_names
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

WIDTH, HEIGHT = 24, 16

MakeStore: TypeAlias = Callable[..., Path]


def smooth(seed: int, count: int, channels: int) -> NDArray[np.float32]:
    """Smooth noise float32 (count, HEIGHT, WIDTH, channels) of mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (count, HEIGHT, WIDTH, channels)).astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])
    scaled: NDArray[np.float32] = blurred.reshape(count, HEIGHT, WIDTH, channels) / blurred.std()
    return scaled


def make_frames(seed: int, count: int) -> NDArray[np.uint8]:
    return np.clip(128 + 50 * smooth(seed, count, 3), 0, 255).astype(np.uint8)


def make_flow(seed: int, count: int, *, px: float = 4.0) -> NDArray[np.float32]:
    return np.ascontiguousarray(px * smooth(1000 + seed, count, 2).transpose(0, 3, 1, 2))


def make_options(**changes: object) -> StoreOptions:
    settings: dict[str, object] = {
        "fields": (FieldOptions(tvl1_preset="fast", tvl1_params="{}"),),
        **changes,
    }
    return StoreOptions(**settings)  # type: ignore[arg-type]


def write_clip(
    store: Path, video_id: str, options: StoreOptions, *, n_frames: int, seed: int, px: float = 4.0
) -> None:
    """Commit the part of a clip: frames make_frames(seed), field f of flow make_flow(seed + f)."""
    n_flow = n_frames - options.step
    frames = make_frames(seed, n_frames)
    path = PartsFolder(store).part_path(video_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with PartWriter(path, video_id=video_id, options=options, width=WIDTH, height=HEIGHT) as writer:
        for index in range(n_frames):
            kept = options.frame_codec == "jpeg"
            writer.add_frame(index / 25, jpeg.encode(frames[index]) if kept else None)
        for number, name in enumerate(field_names(options)):
            for field in make_flow(seed + number, n_flow, px=px):
                coded = options.codec.encode(field)
                writer.add_flow(name, coded)
        writer.commit(make_record(video_id, n_frames, n_flow, seed))


def make_record(video_id: str, n_frames: int, n_flow: int, seed: int) -> VideoRecord:
    folder = video_id.rpartition("/")[0]
    return VideoRecord(
        video_id=video_id,
        label=folder.rpartition("/")[2],
        width=WIDTH,
        height=HEIGHT,
        source_width=WIDTH,
        source_height=HEIGHT,
        fps=25.0,
        n_frames=n_frames,
        n_flow=n_flow,
        backend="cpu",
        source_name="x.avi",
        source_bytes=1000 + seed,
        source_mtime_ns=seed,
        source_sha256=f"{seed:064x}",
    )


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Make a store, or add to it: `make_store({"walk/a": 5}, flow_codec="i16")` has a clip of 5 frames."""

    def make(clips: dict[str, int], *, name: str = "out.h5", px: float = 4.0, **changes: object) -> Path:
        path, options = tmp_path / name, make_options(**changes)
        for seed, (video_id, n_frames) in enumerate(clips.items()):
            write_clip(path, video_id, options, n_frames=n_frames, seed=seed, px=px)
        finalize(path, options=options)
        return path

    return make


def opencv_folder(folder: Path, n_frames: int, *, seed: int = 0, n_flow: int | None = None) -> Path:
    """Write a TSN folder as its tools do, with OpenCV's encoder."""
    folder.mkdir(parents=True)
    for k, frame in enumerate(make_frames(seed, n_frames), 1):
        assert cv2.imwrite(str(folder / f"img_{k:05d}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    for k, field in enumerate(make_flow(seed, n_frames - 1 if n_flow is None else n_flow), 1):
        for plane, axis in zip(quantize_u8(field, bound_px=20)[0], "xy", strict=True):
            assert cv2.imwrite(str(folder / f"flow_{axis}_{k:05d}.jpg"), plane)
    return folder


def run_export(store: Path, dest: Path, layout: str = "tsn", **choices: object) -> export.ExportReport:
    config = ExportConfig(layout=layout, **choices)  # type: ignore[arg-type]
    with InlineExecutor() as executor:
        return export.export(store, dest, config=config, executor=executor)


def run_import(
    folder: Path, store: Path, layout: str = "tsn", *, entries: object = None, **choices: object
) -> importer.ImportReport:
    config = ImportConfig(layout=layout, **choices)  # type: ignore[arg-type]
    with InlineExecutor() as executor:
        return importer.import_rawframes(folder, store, config=config, entries=entries, executor=executor)  # type: ignore[arg-type]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder but what an export keeps for itself, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != ".flowkit-export"
    }
