"""Tiny videos for tests: moving textures, written whole, rotated, uneven in time, or broken.

Nothing here is random but by a seed, and writers take the frames that they write, so that a test
knows what must come back. `lossless_mkv` gives back every pixel; the others are lossy.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]

MILLISECONDS = Fraction(1, 1000)


def moving_texture(
    n: int = 12, *, height: int = 48, width: int = 64, shift: tuple[int, int] = (2, 1), seed: int = 0
) -> UInt8:
    """Frames uint8 (n, height, width, 3) of a smooth texture; `shift` is (right, down) px per frame."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2))
    texture = np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)
    right, down = shift
    return np.stack([np.roll(texture, (k * down, k * right), axis=(0, 1)) for k in range(n)])


def numbered_flashes(n: int, *, height: int = 48, width: int = 64) -> UInt8:
    """Frames of one grey each, 8 levels apart: which frame came can be read off a lossy image."""
    levels = (np.arange(n) % 28 * 8 + 16).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (n, height, width, 3)).copy()


def flash_numbers(frames: Sequence[UInt8]) -> list[int]:
    """Read off which of `numbered_flashes` each frame shows."""
    return [round((float(frame.mean()) - 16) / 8) for frame in frames]


def write_video(
    path: Path,
    frames: UInt8,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    rotation_anticlockwise: int = 0,
    display_matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write frames uint8 (n, H, W, 3) RGB; the suffix chooses the container."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = _add_stream(container, frames, codec, pixel_format, fps, options or {})
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation_anticlockwise:
            stream.set_display_rotation(rotation_anticlockwise)
        if display_matrix is not None:
            stream.set_display_matrix(list(display_matrix))
        if times_ms is not None:
            stream.codec_context.time_base = MILLISECONDS
        for k, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[k], MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _add_stream(
    container: OutputContainer,
    frames: UInt8,
    codec: str,
    pixel_format: str,
    fps: int,
    options: dict[str, str],
) -> VideoStream:
    stream = container.add_stream(codec, rate=fps, options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = pixel_format
    return stream


def h264_mp4(path: Path, frames: UInt8, *, fps: int = 25, key_frame_every: int = 12) -> Path:
    return write_video(path, frames, fps=fps, options={"g": str(key_frame_every)})


def lossless_mkv(path: Path, frames: UInt8, *, fps: int = 25) -> Path:
    return write_video(path, frames, codec="ffv1", pixel_format="bgr0", fps=fps)


def mjpeg_avi(path: Path, frames: UInt8, *, fps: int = 25) -> Path:
    return write_video(path, frames, codec="mjpeg", pixel_format="yuvj420p", fps=fps)


def mpeg4_avi(path: Path, frames: UInt8, *, fps: int = 25) -> Path:
    return write_video(path, frames, codec="mpeg4", fps=fps)


def uneven_mkv(path: Path, frames: UInt8, times_ms: Sequence[int]) -> Path:
    """Write a lossless video of variable frame rate; one time in milliseconds for each frame."""
    return write_video(path, frames, codec="ffv1", pixel_format="bgr0", times_ms=times_ms)


def rotated_mp4(path: Path, upright: UInt8, rotation: int) -> Path:
    """Write frames lying on their side, with the matrix that turns them upright.

    `rotation` is in degrees clockwise, as in `VideoInfo.rotation`: 90, 180 or 270.
    """
    stored = np.rot90(upright, k=rotation // 90, axes=(1, 2))  # anticlockwise
    return write_video(path, np.ascontiguousarray(stored), rotation_anticlockwise=-rotation)


def transport_stream(
    path: Path, frames: UInt8, *, start_seconds: float = 0.0, codec: str = "mpeg2video", fps: int = 25
) -> Path:
    """Write frames as MPEG-TS or, as .mpg, MPEG-PS whose clock begins at a time."""
    form = "mpegts" if path.suffix == ".ts" else "mpeg"
    options = {"mpegts_copyts": "1"} if form == "mpegts" else {}
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = _add_stream(container, frames, codec, "yuv420p", fps, {})
        for k, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = k + round(start_seconds * fps), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_edit_list(path: Path, source: Path, *, first_ms: int, fps: int = 25) -> Path:
    """Copy an MP4 of one video track, shown from a time on alone: the edit list hides what is before."""
    data = bytearray(source.read_bytes())
    movie, media, edits, track = (data.index(name) for name in (b"mvhd", b"mdhd", b"elst", b"tkhd"))
    (movie_scale,), (media_scale,) = (struct.unpack_from(">I", data, at + 16) for at in (movie, media))
    (whole,) = struct.unpack_from(">I", data, edits + 12)
    shown = whole - first_ms * movie_scale // 1000
    struct.pack_into(">Ii", data, edits + 12, shown, first_ms * media_scale // 1000)
    struct.pack_into(">I", data, track + 24, shown)
    path.write_bytes(data)
    return path


def interlaced(
    path: Path, frames: UInt8, *, codec: str = "mpeg2video", pixel_format: str = "yuv420p"
) -> Path:
    """Write frames coded as two fields each."""
    options = {"flags": "+ildct+ilme"}
    if codec == "libx264":
        options["x264-params"] = "tff=1"
    return write_video(path, frames, codec=codec, pixel_format=pixel_format, options=options)


def coloured(path: Path, frames: UInt8, *, pixel_format: str = "yuv420p", **tags: str) -> Path:
    """Write H.264 with x264's `colorprim`, `transfer` and `colormatrix`; the pixels do not depend on them."""
    params = ":".join(f"{name}={value}" for name, value in tags.items())
    return write_video(path, frames, pixel_format=pixel_format, options={"x264-params": params})


def lying(upright: UInt8, rotation: int, mirrored: bool) -> UInt8:
    """Frames (n, H, W, 3) that a mirror and then a clockwise turn make upright."""
    stored = np.rot90(upright, k=rotation // 90, axes=(1, 2))  # anticlockwise
    return np.ascontiguousarray(stored[:, :, ::-1] if mirrored else stored)


def oriented_video(
    path: Path,
    upright: UInt8,
    rotation: int,
    mirrored: bool,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> Path:
    """Write frames lying, with the display matrix that makes them upright: any of the eight."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    across = -1 if mirrored else 1
    one = 1 << 16
    matrix = [across * cos * one, across * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
    return write_video(
        path,
        lying(upright, rotation, mirrored),
        codec=codec,
        pixel_format=pixel_format,
        display_matrix=matrix,
    )


def exif(orientation: int, *, order: str = "<") -> bytes:
    """EXIF data with an orientation, 1 to 8, alone."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(jpeg: bytes, orientation: int, *, order: str = "<") -> bytes:
    """Put an EXIF segment in front of a JPEG's others."""
    segment = b"Exif\0\0" + exif(orientation, order=order)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def mjpeg_with_exif(path: Path, frames: UInt8, orientation: int) -> Path:
    """Write JPEGs with EXIF data as the packets of a video."""
    with av.open(str(path), "w") as container:
        stream = _add_stream(container, frames, "mjpeg", "yuvj420p", 25, {})
        for rgb in frames:
            for made in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                packet = av.Packet(with_exif(bytes(made), orientation))
                packet.pts, packet.dts, packet.time_base = made.pts, made.dts, made.time_base
                packet.stream, packet.is_keyframe = stream, True
                container.mux(packet)
    return path


def h264_with_message(path: Path, frames: UInt8, how: str) -> Path:
    """Write H.264 whose own messages, not the container's matrix, turn it: `rotate=90:flip=horizontal`."""
    plain = write_video(path.with_suffix(".h264"), frames, options={"bf": "0"})
    with av.open(str(plain)) as source, av.open(str(path), "w") as container:
        theirs = source.streams.video[0]
        mine = container.add_stream_from_template(theirs)
        bitstream = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{how}", theirs)
        number = 0
        for packet in source.demux(theirs):
            for made in bitstream.filter(packet if packet.size else None):
                made.pts = made.dts = number
                made.time_base, made.stream, number = Fraction(1, 90_000), mine, number + 3600
                container.mux(made)
    plain.unlink()
    return path


def truncated(path: Path, source: Path, fraction: float) -> Path:
    """Write the first part of a file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def with_broken_packets(path: Path, source: Path, packets: Sequence[int]) -> Path:
    """Copy a video file, some packets of its video overwritten with zeros."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for k, packet in enumerate(container.demux(container.streams.video[0])):
            if k in packets:
                start = data.index(bytes(packet))
                data[start : start + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return path


def audio_only(path: Path, *, seconds: float = 0.5) -> Path:
    """Write a tone without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        tone = np.sin(np.arange(int(16000 * seconds)) * 0.17).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def song_with_cover(path: Path, cover: UInt8) -> Path:
    """Write a tone with one picture that players show meanwhile."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        picture = _add_stream(container, cover[None], "mjpeg", "yuvj420p", 25, {})
        picture.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(
            [*picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")), *picture.encode(None)]
        )
        container.mux([*sound.encode(frame), *sound.encode(None)])
    return path


def two_streams_mkv(path: Path, small: UInt8, large: UInt8) -> Path:
    """Write two lossless video streams, the small one first."""
    with av.open(str(path), "w") as container:
        streams = [_add_stream(container, frames, "ffv1", "bgr0", 25, {}) for frames in (small, large)]
        for stream, frames in zip(streams, (small, large), strict=True):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def image_folder(folder: Path, frames: UInt8, *, suffix: str = ".png", start: int = 1, step: int = 1) -> Path:
    """Write frames as img_00001.png, ..., numbered from `start` in steps."""
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        name = str(folder / f"img_{start + k * step:05d}{suffix}")
        assert cv2.imwrite(name, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder
