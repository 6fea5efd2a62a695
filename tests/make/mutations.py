"""Damaged copies of small videos, by a seed: bits, cuts, splices, headers, holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.make import clips

KINDS = ("bits", "header", "cut", "splice", "hole", "sizes")
HEADER_BYTES = 2048


def originals(folder: Path) -> list[Path]:
    """Write a small sound video in each container and many codecs."""
    frames = clips.moving_texture(8)
    made = [
        clips.h264_mp4(folder / "h264.mp4", frames, key_frame_every=4),
        clips.write_video(folder / "h265.mp4", clips.moving_texture(6, height=64), codec="libx265"),
        clips.mjpeg_avi(folder / "mjpeg.avi", frames),
        clips.mpeg4_avi(folder / "mpeg4.avi", frames),
        clips.lossless_mkv(folder / "ffv1.mkv", frames),
        clips.write_video(folder / "h264.mkv", frames),
        clips.oriented_video(folder / "turned.mov", frames, 90, True),
        clips.write_video(folder / "vp8.webm", frames, codec="libvpx"),
        clips.write_video(folder / "vp9.webm", frames, codec="libvpx-vp9"),
        clips.write_video(folder / "sorenson.flv", frames, codec="flv"),
        clips.write_video(folder / "wmv2.wmv", frames, codec="wmv2"),
        clips.transport_stream(folder / "mpeg2.ts", frames),
        clips.transport_stream(folder / "mpeg1.mpg", frames, codec="mpeg1video"),
        clips.write_video(folder / "rle.mov", frames[:4], codec="qtrle", pixel_format="rgb24"),
        clips.write_video(folder / "a.y4m", frames[:4], codec="wrapped_avframe"),
        clips.interlaced(folder / "fields.mkv", frames),
    ]
    return made


def mutants(files: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of damaged copies; every file and every kind in turn."""
    contents = [path.read_bytes() for path in files]
    for number in range(count):
        random = np.random.default_rng((seed, number))
        which = number % len(files)
        kind = KINDS[number // len(files) % len(KINDS)]
        other = contents[random.integers(len(files))]
        name = f"{number:05d}_{kind}_{files[which].name}"
        yield name, mutated(contents[which], kind, random, other)


def mutated(data: bytes, kind: str, random: np.random.Generator, other: bytes) -> bytes:
    """Return damaged contents of one kind; `other` is what a splice brings in."""
    damaged = bytearray(data)
    end = min(len(data), HEADER_BYTES)
    if kind == "bits":
        for at in random.integers(len(data), size=random.integers(1, 40)):
            damaged[at] ^= 1 << random.integers(8)
    elif kind == "header":
        for at in random.integers(end, size=random.integers(1, 12)):
            damaged[at] = random.integers(256)
    elif kind == "cut":
        first, last = sorted(random.integers(len(data), size=2))
        del damaged[first if random.integers(2) else last : len(data) if random.integers(2) else last]
    elif kind == "splice":
        at, begin = random.integers(len(data)), random.integers(len(other))
        damaged[at : at + random.integers(2) * 512] = other[begin : begin + random.integers(1, 2048)]
    elif kind == "hole":
        at = random.integers(len(data))
        size = min(int(random.integers(1, 4096)), len(data) - int(at))
        damaged[at : at + size] = bytes([255 * int(random.integers(2))]) * size
    else:  # numbers of 32 bits that a parser may trust
        for at in random.integers(max(1, end - 4), size=random.integers(1, 4)):
            number = int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65_536]))
            damaged[at : at + 4] = number.to_bytes(4, "big" if random.integers(2) else "little")
    return bytes(damaged)
