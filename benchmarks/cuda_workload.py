"""The sizes of a section's work, on its command line, and the images that it is done on."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda.cluster import ClusterShape
from flowkit.tvl1.cuda.plan import Size, TileShape
from flowkit.tvl1.params import PRESETS, TVL1Params

_PIXELS_OF_PAIRS = 320 * 240
_MOST_FRAMES = 33


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """The sizes of a section's work.

    Parameters
    ----------
    sizes : tuple of (height, width)
        Of frames, px; sections that take one size take the first.
    pairs : int
        Of a batch at 320x240 px; fewer at larger sizes.
    iterations : int
        At most, of a warp, whatever the preset has.
    copy_bytes : int
        Of the arrays that copies are timed with.
    clips : (clips, frames, copies)
        That are extracted.
    tiles : tuple of TileShape
        All of them for the section `tiles`; others take the first. Empty: the engine's own.
    clusters : mapping from (height, width) to ClusterShape
        In place of those that the engine chooses.
    video : str
        File whose frames are solved, resized, in place of images that are made, and which is extracted.
    """

    sizes: tuple[Size, ...] = ((240, 320),)
    pairs: int = 256
    iterations: int = 300
    copy_bytes: int = 1 << 30
    clips: tuple[int, ...] = (16, 192, 10)
    tiles: tuple[TileShape, ...] = ()
    clusters: Mapping[Size, ClusterShape] = dataclasses.field(default_factory=dict)
    video: str = ""

    @property
    def size(self) -> Size:
        """(height, width) of sections with one size."""
        return self.sizes[0]

    @property
    def tile(self) -> TileShape:
        """The tile of sections with one."""
        return self.tiles[0] if self.tiles else TileShape()

    def params(
        self, preset: str = "opencv-cuda", *, forced: bool = False, levels: int | None = None
    ) -> TVL1Params:
        """Return a preset with at most `iterations`: all of them if forced; at most so many levels."""
        params = PRESETS[preset]
        return dataclasses.replace(
            params,
            iterations=min(params.iterations, self.iterations),
            epsilon=0.0 if forced else params.epsilon,
            nscales=levels or params.nscales,
        )

    def pairs_at(self, size: Size) -> int:
        """Return the pairs of a batch of this size."""
        return max(1, min(self.pairs, self.pairs * _PIXELS_OF_PAIRS // (size[0] * size[1])))


def parse_size(text: str) -> Size:
    """Return (height, width) of WIDTHxHEIGHT."""
    width, height = map(int, text.split("x"))
    return height, width


def size_name(size: Sequence[int]) -> str:
    """Return WIDTHxHEIGHT."""
    return f"{size[1]}x{size[0]}"


def parse_tile(text: str) -> TileShape:
    """Return the shape of COLUMNSxROWSxWARPSxHALO."""
    columns, rows, warps, halo = map(int, text.split("x"))
    return TileShape(columns=columns, rows=rows, warps=warps, halo=halo)


def tile_name(shape: TileShape) -> str:
    """Return COLUMNSxROWSxWARPSxHALO."""
    return f"{shape.columns}x{shape.rows}x{shape.warps}x{shape.halo}"


def parse_cluster(text: str) -> tuple[Size | None, ClusterShape]:
    """Return the size and the shape of [WIDTHxHEIGHT=]COLUMNSxROWSxWARPSxBLOCKS[xRESIDENT]."""
    size, _, sides = text.rpartition("=")
    columns, rows, warps, blocks, *resident = map(int, sides.split("x"))
    shape = ClusterShape(columns=columns, rows=rows, warps=warps, blocks=blocks, resident=(*resident, 1)[0])
    return parse_size(size) if size else None, shape


def cluster_name(shape: ClusterShape) -> str:
    """Return COLUMNSxROWSxWARPSxBLOCKS, and xRESIDENT where a processor holds several blocks."""
    resident = f"x{shape.resident}" if shape.resident > 1 else ""
    return f"{shape.columns}x{shape.rows}x{shape.warps}x{shape.blocks}{resident}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a workload; those that are not given keep the section's own sizes."""
    several = {"nargs": "+", "default": None}
    parser.add_argument("--size", metavar="WIDTHxHEIGHT", help="of frames, px", **several)  # type: ignore[arg-type]
    parser.add_argument("--pairs", type=int, help="of a batch")
    parser.add_argument("--video", metavar="FILE", help="whose frames are taken; default: made ones")
    parser.add_argument("--iterations", type=int, help="at most, of a warp")
    parser.add_argument("--copy-bytes", type=int, help="of the arrays that copies are timed with")
    parser.add_argument("--clips", type=int, nargs=3, metavar=("CLIPS", "FRAMES", "COPIES"))
    parser.add_argument("--tile", metavar="COLUMNSxROWSxWARPSxHALO", **several)  # type: ignore[arg-type]
    parser.add_argument(
        "--cluster",
        metavar="[WIDTHxHEIGHT=]COLUMNSxROWSxWARPSxBLOCKS[xRESIDENT]",
        help="for levels of that size; without one, for frames of the first --size",
        **several,  # type: ignore[arg-type]
    )


def workload_of(options: argparse.Namespace) -> Workload:
    """Return the workload of parsed options."""
    changes: dict[str, object] = {
        name: getattr(options, name)
        for name in ("pairs", "iterations", "copy_bytes", "video")
        if getattr(options, name) is not None
    }
    if options.clips:
        changes["clips"] = tuple(options.clips)
    if options.size:
        changes["sizes"] = tuple(map(parse_size, options.size))
    if options.tile:
        changes["tiles"] = tuple(map(parse_tile, options.tile))
    workload = Workload(**changes)  # type: ignore[arg-type]
    chosen = [parse_cluster(text) for text in options.cluster or ()]
    return dataclasses.replace(workload, clusters={size or workload.size: shape for size, shape in chosen})


def words_of(options: argparse.Namespace) -> list[str]:
    """Return the words of a command line that gives the same options to a section."""
    words: list[str] = []
    for name in ("size", "pairs", "iterations", "copy_bytes", "video", "clips", "tile", "cluster"):
        value = getattr(options, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


@functools.lru_cache(maxsize=8)
def moving_images(size: Size, count: int) -> NDArray[np.uint8]:
    """Return frames, not to be written to, of a fractal texture that drifts and a disc that goes back."""
    rng, (height, width) = np.random.default_rng(0), size
    fy, fx = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)[None]
    spectrum = np.fft.rfft2(rng.normal(size=(2, 2 * height, 2 * width))) / (0.01 + np.hypot(fx, fy)) ** 1.3
    y, x = np.indices(size)
    frames = np.empty((count, *size), np.uint8)
    for k in range(count):
        shift = np.exp(2j * np.pi * np.stack([1.3 * k * fx - 0.7 * k * fy, -2.1 * k * fx + 0.9 * k * fy]))
        layers = np.fft.irfft2(spectrum * shift, (2 * height, 2 * width))[:, :height, :width]
        disc = np.hypot(y - height / 2, x - width / 2 - 2.1 * k % (width / 4)) < height / 4
        image = np.where(disc, layers[1], layers[0])
        frames[k] = np.clip(128 + 45 * image / image.std(), 0, 255)
    # Sections ask for the same ones again and again: a second or two each time.
    frames.setflags(write=False)
    return frames


def waves(size: Size, flow: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float32]:
    """Return a smooth texture of plane waves, moved by (u, v) px without resampling, in [20, 235]."""
    rng = np.random.default_rng(0)
    y, x = np.indices(size, dtype=np.float64)
    angles, lengths, phases = rng.uniform((0, 8, 0), (2 * np.pi, 40, 2 * np.pi), (12, 3)).T
    along = np.multiply.outer(np.cos(angles), x - flow[0]) + np.multiply.outer(np.sin(angles), y - flow[1])
    image = np.sin(2 * np.pi * along / lengths[:, None, None] + phases[:, None, None]).sum(axis=0)
    return np.asarray(127.5 + 107.5 / 12 * image, np.float32)


@functools.lru_cache(maxsize=8)
def video_images(video: str, size: Size, count: int) -> NDArray[np.uint8]:
    """Return the first grey frames of a file, resized; not to be written to."""
    capture, (height, width) = cv2.VideoCapture(video), size
    greys: list[NDArray[np.uint8]] = []
    while len(greys) < count and (frame := capture.read()[1]) is not None:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        greys.append(np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
    if len(greys) < 2:
        raise ValueError(f"{video}: {len(greys)} frames read, a pair needs 2")
    frames = np.stack(greys)
    frames.setflags(write=False)
    return frames


def images_and_pairs(size: Size, pairs: int, video: str = "") -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return at most 33 frames, and pairs of neighbours among them that go round."""
    count = min(pairs + 1, _MOST_FRAMES)
    images = video_images(video, size, count) if video else moving_images(size, count)
    first = np.arange(pairs) % (len(images) - 1)
    return images, np.stack([first, first + 1], axis=1).astype(np.int32)
