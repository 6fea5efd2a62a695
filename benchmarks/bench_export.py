"""Measure `export --layout tsn` on one core against cv2.imwrite of arrays that are ready.

The baseline only encodes and writes: its images are in memory, decoded and quantised. The export reads
a store, copies the frames' JPEGs and makes the flow's (codec i8), or copies these too (codec jpeg).
Runs alternate; each writes the same images into a new folder. Import of the same folder is measured
beside it. Wall and processor time are both recorded: on a shared machine the latter is the steadier.

    python -m benchmarks.bench_export [VIDEO] [--frames 120] [--repeats 7]

Without a video, textures and smooth flow of 340x256 are made up.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import flowkit
from benchmarks.record import JsonObject, write_result
from flowkit import jpeg
from flowkit.executor import InlineExecutor
from flowkit.quantize import quantize_u8
from flowkit.rawframes import export, importer
from flowkit.rawframes.export import ExportConfig, prepare
from flowkit.rawframes.import_config import ImportConfig
from flowkit.store.codecs import flow_codec
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

WIDTH, HEIGHT = 340, 256
UInt8 = NDArray[np.uint8]
Float = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    frames, flow = read_video(asked.video, asked.frames) if asked.video else made_up(asked.frames)
    with tempfile.TemporaryDirectory(prefix="flowkit-bench-") as folder:
        result = measure(Path(folder), frames, flow, asked.repeats)
    source = asked.video.name if asked.video else "made up"
    setting = {"source": source, "frames": len(frames), "size": [WIDTH, HEIGHT], "repeats": asked.repeats}
    print(write_result("export", {"setting": setting, **result}))


def read_video(path: Path, count: int) -> tuple[UInt8, Float]:
    """Return frames at TSN's size and their TV-L1 flow, preset fast: its values matter, not its merit."""
    frames = []
    with flowkit.open_video(path) as reader:
        for frame in reader:
            frames.append(cv2.resize(frame.rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
            if len(frames) == count:
                break
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    params = flowkit.PRESETS["fast"]
    pairs = itertools.pairwise(grey)
    flow = [flowkit.tvl1_flow(np.asarray(a), np.asarray(b), params=params) for a, b in pairs]
    return np.asarray(frames, np.uint8), np.stack(flow)


def made_up(count: int) -> tuple[UInt8, Float]:
    """Return a drifting texture, uint8 (count, H, W, 3), and smooth flow of up to some 10 px."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    texture = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2))
    scaled = np.interp(texture, (texture.min(), texture.max()), (0, 255)).astype(np.uint8)
    frames = np.stack([np.roll(scaled, (k, 2 * k), axis=(0, 1)) for k in range(count)])
    flow = [cv2.GaussianBlur(rng.normal(0, 120, (HEIGHT, WIDTH, 2)), (0, 0), 12) for _ in range(count - 1)]
    fields = np.asarray(flow, np.float32).transpose(0, 3, 1, 2)
    return frames, np.ascontiguousarray(fields)


def make_store(path: Path, frames: UInt8, flow: Float, codec: str) -> Path:
    field = FieldOptions(tvl1_preset="fast", tvl1_params="{}")
    options = StoreOptions(fields=(field,), flow_codec=codec)
    part = PartsFolder(path).part_path("c/clip")
    part.parent.mkdir(parents=True)
    with PartWriter(part, video_id="c/clip", options=options, width=WIDTH, height=HEIGHT) as writer:
        for k, frame in enumerate(frames):
            writer.add_frame(k / 25, jpeg.encode(frame))
            if k < len(flow):
                writer.add_flow("flow", flow_codec(codec).encode(flow[k]))
        writer.commit(
            VideoRecord(
                video_id="c/clip",
                label="c",
                width=WIDTH,
                height=HEIGHT,
                source_width=WIDTH,
                source_height=HEIGHT,
                fps=25.0,
                n_frames=len(frames),
                n_flow=len(flow),
                backend="cpu",
                source_name="clip",
                source_bytes=0,
                source_mtime_ns=0,
            )
        )
    finalize(path, options=options)
    return path


def measure(folder: Path, frames: UInt8, flow: Float, repeats: int) -> JsonObject:
    """Return frames a second of each contender, and its ratio to the baseline of the same round."""
    stores = {
        codec: make_store(folder / f"{codec}.h5", frames, flow, codec) for codec in ("i8", "i16", "jpeg")
    }
    bgr = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8) for frame in frames]
    planes = [quantize_u8(field, bound_px=20)[0] for field in flow]
    source = folder / "source"
    export_store(stores["jpeg"], source)
    contenders: dict[str, Callable[[Path], None]] = {
        "cv2.imwrite": lambda dest: imwrite(bgr, planes, dest),
        **{f"export {codec}": make_export(path) for codec, path in stores.items()},
        "import": lambda dest: import_folder(source, dest),
    }
    for contender in contenders.values():
        timed(contender, folder / "warm")
    rounds = [
        {name: timed(contender, folder / "run") for name, contender in contenders.items()}
        for _ in range(repeats)
    ]
    return {name: summary(name, rounds, len(frames)) for name in contenders}


def make_export(store: Path) -> Callable[[Path], None]:
    return lambda dest: export_store(store, dest)


def imwrite(bgr: list[UInt8], planes: list[UInt8], dest: Path) -> None:
    folder = dest / "c" / "clip"
    folder.mkdir(parents=True)
    for k, image in enumerate(bgr, 1):
        cv2.imwrite(f"{folder}/img_{k:05d}.jpg", image)
    for k, (x, y) in enumerate(planes, 1):
        cv2.imwrite(f"{folder}/flow_x_{k:05d}.jpg", x)
        cv2.imwrite(f"{folder}/flow_y_{k:05d}.jpg", y)


def export_store(store: Path, dest: Path) -> None:
    with InlineExecutor() as executor:
        report = export.run(prepare(store, dest, ExportConfig(layout="tsn")), executor=executor)
    assert not report.failures


def import_folder(source: Path, dest: Path) -> None:
    dest.mkdir()
    setup = importer.prepare(source, dest / "in.h5", ImportConfig(layout="tsn"))
    with InlineExecutor() as executor:
        assert not importer.run(setup, executor=executor).failures


def timed(contender: Callable[[Path], None], dest: Path) -> tuple[float, float]:
    """Return wall and processor seconds of one run into a new folder."""
    wall, cpu = time.perf_counter(), time.process_time()
    contender(dest)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    shutil.rmtree(dest)
    return spent


def summary(name: str, rounds: list[dict[str, tuple[float, float]]], frames: int) -> JsonObject:
    found: JsonObject = {}
    for at, clock in enumerate(("wall", "processor")):
        seconds = [turn[name][at] for turn in rounds]
        ratios = [turn["cv2.imwrite"][at] / turn[name][at] for turn in rounds]
        found[clock] = {
            "frames_per_second": frames / statistics.median(seconds),
            "relative_to_imwrite": statistics.median(ratios),
            "relative_range": [min(ratios), max(ratios)],
            "seconds": seconds,
        }
        print(
            f"{name:12} {clock:9} {found[clock]['frames_per_second']:7.1f} frames/s, "
            f"{found[clock]['relative_to_imwrite']:.2f} of cv2.imwrite"
        )
    return found


if __name__ == "__main__":
    main()
