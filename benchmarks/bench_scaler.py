"""Frames and flow by swscale from the decoder's planes against RGB first and OpenCV's resize.

    python -m benchmarks.bench_scaler

Of the first frames of the clips of `bench_frames` that shrink: PSNR of the frames, and the mean end-point
difference of their flow by the default preset, between the two ways, and of each to an exact conversion (full
chroma, rounded, averaged in float).
"""

from __future__ import annotations

import json

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from benchmarks.bench_frames import CLIPS, DATA
from benchmarks.record import JsonObject, write_result
from flowkit.frames import pair_indices, resize, to_grey
from flowkit.resize_rule import ResizeRule
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import DEFAULT_PRESET, resolve_params
from flowkit.video.pyav_colour import RgbConverter
from flowkit.video.pyav_file import open_container

FRAMES = 9
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of frames, dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def exact(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Return a frame by an exact conversion and a float average, rounded once."""
    whole = reformatter.reformat(frame, format="rgb24", interpolation=_EXACT, threads=1).to_ndarray()
    return np.asarray(np.rint(resize(whole.astype(np.float32), size)), np.uint8)


def measure(name: str) -> JsonObject:
    """Return the differences of one clip."""
    path = DATA / "labelled" / "fight" / "videos" / name
    with open_container(path) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(FRAMES), strict=False)]
    size = ResizeRule().target_size(frames[0].width, frames[0].height)
    converter, reformatter = RgbConverter(path), VideoReformatter()
    made = {
        "swscale": np.stack([converter.scale(frame, size) for frame in frames]),
        "opencv": np.stack([resize(converter.convert(frame), size) for frame in frames]),
        "exact": np.stack([exact(frame, size, reformatter) for frame in frames]),
    }
    engine = cpu.load(resolve_params(DEFAULT_PRESET))
    flows = {
        way: engine.flow_batch(np.stack([to_grey(rgb) for rgb in images]), pair_indices(len(images)))
        for way, images in made.items()
    }
    found: JsonObject = {"clip": name, "size": f"{frames[0].width}x{frames[0].height}", "stored": size}
    for one, other in (("swscale", "opencv"), ("swscale", "exact"), ("opencv", "exact")):
        distance = np.hypot(*np.moveaxis(flows[one] - flows[other], 1, 0))
        found[f"{one} to {other}"] = {
            "psnr_db": psnr(made[one], made[other]),
            "aee_px": float(distance.mean()),
        }
    found["mean_flow_px"] = float(np.hypot(*np.moveaxis(flows["exact"], 1, 0)).mean())
    return found


def main() -> None:
    cv2.setNumThreads(1)
    rows = [measure(name) for name in CLIPS[1:]]  # the first one is not scaled
    path = write_result("scaler", {"question": "difference of the two scalers", "rows": rows})
    print(json.dumps(rows, indent=1), path)


if __name__ == "__main__":
    main()
