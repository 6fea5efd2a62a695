"""Tiny stores for tests: videos of known flow, and frames that say their own number."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.store import checked_hdf5
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

Flow = NDArray[np.float32]


def steady(n: int, u: float, v: float, *, height: int = 12, width: int = 20) -> Flow:
    """Flow of one vector everywhere, float32 (n, 2, height, width)."""
    return np.broadcast_to(np.array([u, v], np.float32)[None, :, None, None], (n, 2, height, width)).copy()


def noise(n: int, seed: int, *, height: int = 12, width: int = 20, sigma_px: float = 2.0) -> Flow:
    return np.random.default_rng(seed).normal(0, sigma_px, (n, 2, height, width)).astype(np.float32)


def write_store(
    path: Path,
    videos: Mapping[str, Flow],
    *,
    codec: str = "i8",
    frames: bool = True,
    step: int = 1,
    labels: Mapping[str, str] | None = None,
    failures: tuple[Failure, ...] = (),
) -> Path:
    """Write a finished store; frame k of each video is grey of level 10 + k."""
    options = StoreOptions(
        fields=(FieldOptions(tvl1_preset="fast", tvl1_params='{"tau": 0.25}'),),
        flow_codec=codec,
        frame_codec="jpeg" if frames else "none",
        step=step,
    )
    for video_id, flow in videos.items():
        label = (labels or {}).get(video_id, video_id.rpartition("/")[0])
        _write_part(PartsFolder(path).part_path(video_id), video_id, label, flow, options)
    finalize(path, options=options, failures=failures)
    return path


def _write_part(path: Path, video_id: str, label: str, flow: Flow, options: StoreOptions) -> None:
    n_flow, _, height, width = flow.shape
    n_frames = n_flow + options.step
    path.parent.mkdir(parents=True, exist_ok=True)
    with PartWriter(path, video_id=video_id, options=options, width=width, height=height) as writer:
        for k in range(n_frames):
            picture = np.full((height, width, 3), min(255, 10 + k), np.uint8)
            writer.add_frame(k / 25, jpeg.encode(picture) if options.frame_codec == "jpeg" else None)
        for field in flow:
            writer.add_flow("flow", options.codec.encode(field))
        writer.commit(
            VideoRecord(
                video_id=video_id,
                label=label,
                width=width,
                height=height,
                source_width=2 * width,
                source_height=2 * height,
                fps=25.0,
                n_frames=n_frames,
                n_flow=n_flow,
                backend="cpu",
                source_name=f"{video_id}.avi",
                source_bytes=1000,
                source_mtime_ns=1,
                flow_max_px=float(np.abs(flow).max(initial=0.0)),
            )
        )


def claim_size(path: Path, video_id: str, width: int, height: int) -> None:
    """Let the index and the attributes of a video claim another size; its data stay as they are."""
    with h5py.File(path, "r+") as file:
        table = file["index/videos"][()]
        row = table["id"].tolist().index(video_id.encode())
        table["width"][row], table["height"][row] = width, height
        file["index/videos"][...] = table
        sum_table(file, "index/videos")
        file[f"videos/{video_id}"].attrs.update(width=width, height=height)


def enlarge(path: Path, video_id: str, width: int, height: int) -> None:
    """Give a video zero flow of another size, really stored: one field's deflated bytes for all of them."""
    claim_size(path, video_id, width, height)
    data = zlib.compress(bytes(2 * height * width), 9)
    with h5py.File(path, "r+") as file:
        group = file[f"videos/{video_id}"]
        count = len(group["flow"])
        del group["flow"]
        shape = (2, height, width)
        flow = group.create_dataset(
            "flow", shape=(count, *shape), chunks=(1, *shape), dtype="i1", compression="gzip", fillvalue=-128
        )
        for k in range(count):
            flow.id.write_direct_chunk((k, 0, 0, 0), data)
        group["flow_crc32"][...] = zlib.crc32(data)


def add_labels(path: Path, count: int) -> None:
    """Make the class names so many; the videos keep theirs."""
    with h5py.File(path, "r+") as file:
        block = json.loads(file["metadata"][()].tobytes())
        names = block["labels"] + [f"{k:07}" for k in range(count - len(block["labels"]))]
        replace_metadata(file, json.dumps({**block, "labels": names}, sort_keys=True).encode())
        del file["labels"]
        table = np.empty(count, [("label", h5py.string_dtype("utf-8", 8))])
        table["label"] = [name.encode() for name in names]
        file.create_dataset("labels", data=table)


def sum_table(file: h5py.File, name: str) -> None:
    """Give a table that was changed the checksum of what it holds now."""
    file[name].attrs["crc32"] = zlib.crc32(file[name][()].tobytes())


def change_metadata(file: h5py.File, **attributes: object) -> None:
    """Change attributes of the root and in the block of metadata, as another writer would have them."""
    block = json.loads(file["metadata"][()].tobytes())
    block["attributes"] |= attributes
    replace_metadata(file, json.dumps(block, sort_keys=True).encode())
    for name, value in attributes.items():
        file.attrs[name] = value


def replace_metadata(file: h5py.File, block: bytes) -> None:
    """Replace the block of metadata, with its checksum."""
    del file["metadata"]
    file["metadata"] = np.frombuffer(block, np.uint8)
    file["metadata"].attrs["crc32"] = zlib.crc32(block)


def make_format_1_0(file: h5py.File) -> None:
    """Take from a file what format 1.1 added."""
    del file["metadata"]
    file.attrs["format_version"] = "1.0"
    for name in ("index/videos", "labels", "failures", "shard_table"):
        if name in file:
            del file[name].attrs["crc32"]
    if "index" in file:
        del file["index/file_crc32"]
    if "shard_table" not in file:
        for video_id in checked_hdf5.video_ids(file):
            attrs = file[f"videos/{video_id}"].attrs
            for name in [name for name in attrs if name.endswith("_crc32")]:
                del attrs[name]
