"""A folder of numbered images, read as a video.

The number is the last group of digits in a name: `img_00007.jpg` is frame 7. Numbers may start
anywhere and go in steps (0, 5, 10, ...); a number left out keeps its time and counts as
a fault, as does an image that does not decode. EXIF's orientation is applied, as image viewers do.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from flowkit import jpeg
from flowkit.errors import DecodeError, JpegError, UnopenableError
from flowkit.typing import UInt8
from flowkit.video.orientation import Orientation, of_image
from flowkit.video.source import DEFAULT_FPS, DecodedFrame, Fault, VideoInfo, same

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})

_JPEG_SUFFIXES = (".jpg", ".jpeg")
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)

# More left out than this many for each image there: the numbers count something else than frames.
_MOST_GAPS_PER_IMAGE = 100


class ImageSource:
    """A folder of numbered images; see `flowkit.video.source.Source`.

    Parameters
    ----------
    folder
        An existing folder.
    fps
        Frames per second, 25 if None: images have none of their own.

    Raises
    ------
    UnopenableError
        No numbered image, several sequences, or one number twice.
    DecodeError
        Not one image decodes.
    """

    longest_gap_seconds = math.inf
    scales, keeps_frames = False, True

    def __init__(self, folder: Path, fps: float | None) -> None:
        self.notes: list[str] = []
        self._fps = DEFAULT_FPS if fps is None else fps
        self._slots = _slots(_numbered_images(folder))
        first = next((read for read in map(_try_read, self._slots.values()) if read is not None), None)
        if first is None:
            raise DecodeError(f"{folder}: none of its {len(self._slots)} images decodes")
        image, orientation = first
        slot_count = max(self._slots) + 1
        self.info = VideoInfo(
            codec=next(iter(self._slots.values())).suffix.lower().removeprefix("."),
            pixel_format="",
            width=image.shape[1],
            height=image.shape[0],
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            fps=self._fps,
            header_frames=slot_count,
            header_seconds=slot_count / self._fps,
            stream_index=0,
            container="images",
            origin_seconds=0.0,
            decoder="images",
        )

    def events(self, start_seconds: float | None) -> Iterator[DecodedFrame | Fault]:
        """Read from the last image at or before `start_seconds`, or from the first one."""
        first = max(0, math.floor((start_seconds or 0.0) * self._fps))
        for slot in range(first, max(self._slots) + 1):
            yield self._event(slot)

    def shortfall(self, frames: int, end_seconds: float, unread: int) -> str:
        """Return "": an image that is missing is a fault."""
        return ""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _event(self, slot: int) -> DecodedFrame | Fault:
        seconds = slot / self._fps
        path = self._slots.get(slot)
        if path is None:
            return Fault(seconds=seconds, reason=f"image {slot + 1} of the sequence is missing")
        read = _try_read(path)
        if read is None:
            return Fault(seconds=seconds, reason=f"{path.name} does not decode")
        image, _ = read
        height, width = image.shape[:2]
        return DecodedFrame(seconds=seconds, width=width, height=height, to_rgb=partial(same, image))


def is_image_folder(path: Path) -> bool:
    """Return whether a path is a folder that directly holds a numbered image."""
    if not path.is_dir():
        return False
    return any(_NUMBERED.fullmatch(entry.stem) for entry in path.iterdir() if _is_image(entry))


def count_numbered(images: Iterable[Path]) -> int:
    """Return how many image files have a number in their name."""
    return sum(_NUMBERED.fullmatch(path.stem) is not None for path in images)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _numbered_images(folder: Path) -> dict[int, Path]:
    """Return the images by their numbers, which must be those of one sequence."""
    numbered: dict[int, Path] = {}
    names: set[str] = set()
    for path in sorted(filter(_is_image, folder.iterdir())):
        match = _NUMBERED.fullmatch(path.stem)
        if match is None:
            continue
        before, digits, after = match.groups()
        names.add(f"{before}#{after}")
        if len(names) > 1:
            raise UnopenableError(
                f"{folder}: images of several sequences ({', '.join(sorted(names))}); keep one in a folder"
            )
        if int(digits) in numbered:
            raise UnopenableError(f"{folder}: {numbered[int(digits)].name} and {path.name} have one number")
        numbered[int(digits)] = path
    if not numbered:
        raise UnopenableError(f"{folder}: a folder without numbered images")
    return dict(sorted(numbered.items()))


def _slots(numbered: dict[int, Path]) -> dict[int, Path]:
    """Return the images by their index in time, from 0: (number - first) / common step."""
    numbers = list(numbered)
    stride = math.gcd(*(later - sooner for sooner, later in itertools.pairwise(numbers))) or 1
    span = (numbers[-1] - numbers[0]) // stride + 1
    if span > _MOST_GAPS_PER_IMAGE * len(numbers):
        raise UnopenableError(
            f"{numbered[numbers[0]].parent}: {len(numbers)} images numbered {numbers[0]} to {numbers[-1]}: "
            f"their numbers do not count frames; number them in steps of one"
        )
    return {(number - numbers[0]) // stride: path for number, path in numbered.items()}


def _try_read(path: Path) -> tuple[UInt8, Orientation] | None:
    """Read one image as upright uint8 (H, W, 3) RGB, or None where it does not decode."""
    try:
        data = jpeg.read_file(path)
        if path.suffix.lower() in _JPEG_SUFFIXES:
            jpeg.size(data)
            rgb = jpeg.decode(data)
        else:
            bgr = jpeg.decode_by_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    except (OSError, cv2.error, JpegError):
        return None
    orientation = of_image(data)
    return orientation.upright(rgb), orientation
