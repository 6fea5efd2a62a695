"""The real pairs that bench_tvl1.py times: ground truth, and pairs spread over whole clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import read_grey
from flowkit.flow_files.flo import read_flo

GREY = NDArray[np.uint8]
FLOW = NDArray[np.float32]
GROUND_TRUTH = ("RubberWhale", "Venus")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A video and the pairs of neighbouring frames taken from it, evenly from first to last.

    Frames are reduced to `short_side` px, or resized to `size` (width, height).
    """

    file: str
    pairs: int = 8
    short_side: int = 240
    size: tuple[int, int] | None = None


CLIPS = {
    "UCF101 clip, 320x240": Clip(file="misc/tests_data_test.avi"),
    "pancake, 426x240": Clip(file="decord/flipping_a_pancake.mkv"),
    "bikes, 602x256": Clip(file="misc/bikes.mp4", short_side=256),
    "nearly static clip, 1280x720": Clip(file="decord/corrupted.mp4", pairs=4, size=(1280, 720)),
    "test pattern, 1280x720": Clip(file="torchcodec/testsrc2_vp9.webm", pairs=2, size=(1280, 720)),
    "bikes enlarged to 1280x720": Clip(file="misc/bikes.mp4", pairs=2, size=(1280, 720)),
}
QUICK = ("UCF101 clip, 320x240",)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two grey frames, (2, H, W), and where it is known the true flow (NaN where unknown)."""

    name: str
    frames: GREY
    true: FLOW | None = None


def ground_truth_pair(folder: Path) -> Pair:
    frames = np.stack([read_grey(folder / name) for name in ("frame10.png", "frame11.png")])
    return Pair(name=folder.name, frames=frames, true=read_flo(folder / "flow10.flo"))


def clip_pairs(videos: Path, clip: Clip) -> list[Pair]:
    """Decode the clip to its end (or its first fault) and take its pairs."""
    capture = cv2.VideoCapture(str(videos / clip.file))
    grey: list[GREY] = []
    while (frame := capture.read()[1]) is not None:
        grey.append(_reduced(np.asarray(frame, np.uint8), clip))
    if len(grey) < 2 * clip.pairs:
        raise SystemExit(f"{videos / clip.file} has {len(grey)} frames, {2 * clip.pairs} are needed")
    starts = np.linspace(0, len(grey) - 2, clip.pairs).round().astype(int)
    return [Pair(name=f"#{k}", frames=np.stack(grey[k : k + 2])) for k in starts]


def _reduced(frame: NDArray[np.uint8], clip: Clip) -> GREY:
    height, width = frame.shape[:2]
    ratio = clip.short_side / min(height, width)
    size = clip.size or (round(width * ratio), round(height * ratio))
    if size != (width, height):
        how = cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC
        frame = np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
