"""Orientation and length that a file asks for, by the bytes of its container or of its first packet.

OpenCV has only an angle, which a mirror falsifies. PyAV has the whole matrix, except for frames with
side data that it does not know. OpenCV counts frames that an edit list hides.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from flowkit.video.orientation import UPRIGHT, Orientation, of_image, of_matrix, right_angle

# A header of tracks is kilobytes; the index of a film of hours is megabytes.
_MAX_HEADER_BYTES = 256 << 20
_MAX_BOXES = 10_000

_MOVIE_MATRIX = 36  # bytes before the matrix of a movie header of version 0
_TRACK_MATRIX = 40
_VERSION_1_MORE = 12
# A matrix has 16.16 numbers, but 2.30 in its last column.
_SHIFTS = (16, 16, 30)

_MAX_PACKET_HEAD = 1 << 20
# The first bytes of a unit with supplemental messages, in H.264 and in HEVC.
_MESSAGE_UNITS = (b"\x06", b"\x4e\x01")
_DISPLAY_ORIENTATION = 47

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _TRACKS, _TRACK, _TRACK_VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_PROJECTION, _YAW, _PITCH, _ROLL = 0x7670, 0x7673, 0x7674, 0x7675


def container_orientations(path: Path) -> tuple[Orientation | None, ...]:
    """Return, for each track in order, the orientation that a file asks for; None for one that is no video.

    The tuple is empty where the file is of another kind, or damaged before its tracks.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == _EBML:
                return tuple(_matroska(file, path.stat().st_size))
        return tuple(_tracks(read_movie(path)))
    except (struct.error, IndexError, ValueError, OverflowError):
        return ()


def read_movie(path: Path) -> bytes:
    """Return the contents of an MP4 or QuickTime file's `moov` box, b"" without one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for name, start, end in itertools.islice(_file_boxes(file, size), _MAX_BOXES):
            if name == b"moov" and end - start <= _MAX_HEADER_BYTES:
                file.seek(start)
                return file.read(end - start)
    return b""


def _file_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each box at the top of a file, its head left out."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, name = struct.unpack(">I4s", head[:8])
        start = position + 8
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:16])
            start += 8
        end = size if length == 0 else position + length
        if end < start:
            return
        yield name, start, end
        position = end


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the contents of each box."""
    position = 0
    while position + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        start = position + 8
        if length == 1:
            (length,) = struct.unpack(">Q", data[start : start + 8])
            start += 8
        end = len(data) if length == 0 else position + length
        if end < start:
            return
        yield name, data[start:end]
        position = end


def video_tracks(movie: bytes) -> list[bytes]:
    """Return the contents of the boxes of a movie's video tracks."""
    return [track for name, track in boxes(movie) if name == b"trak" and _is_video(track)]


def _is_video(track: bytes) -> bool:
    handler = dict(boxes(dict(boxes(track)).get(b"mdia", b""))).get(b"hdlr", b"")
    return handler[8:12] == b"vide"


def _tracks(movie: bytes) -> Iterator[Orientation | None]:
    around = next((_matrix(box, _MOVIE_MATRIX) for name, box in boxes(movie) if name == b"mvhd"), None)
    for name, track in boxes(movie):
        if name != b"trak":
            continue
        inside = dict(boxes(track))
        if not _is_video(track) or b"tkhd" not in inside:
            yield None
            continue
        matrix = _matrix(inside[b"tkhd"], _TRACK_MATRIX)
        yield of_matrix(matrix if around is None else _product(matrix, around))


def _matrix(box: bytes, start: int) -> tuple[int, ...]:
    return struct.unpack_from(">9i", box, start + (_VERSION_1_MORE if box[0] == 1 else 0))


def _product(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(
        sum(left[3 * i + e] * right[3 * e + j] >> _SHIFTS[e] for e in range(3))
        for i in range(3)
        for j in range(3)
    )


def _matroska(file: BinaryIO, size: int) -> Iterator[Orientation | None]:
    for element, start, end in itertools.islice(_elements(file, 0, size), _MAX_BOXES):
        if element != _SEGMENT:
            continue
        for child, first, last in itertools.islice(_elements(file, start, end), _MAX_BOXES):
            if child == _TRACKS:
                for track, begin, stop in _elements(file, first, last):
                    if track == _TRACK:
                        yield _track_orientation(file, begin, stop)
                return


def _track_orientation(file: BinaryIO, start: int, end: int) -> Orientation | None:
    for element, first, last in _elements(file, start, end):
        if element == _TRACK_VIDEO:
            angles = {_YAW: 0.0, _PITCH: 0.0, _ROLL: 0.0}
            for child, begin, stop in _elements(file, first, last):
                if child == _PROJECTION:
                    angles |= _angles(file, begin, stop)
            return _of_angles(yaw=angles[_YAW], pitch=angles[_PITCH], roll=angles[_ROLL])
    return None


def _angles(file: BinaryIO, start: int, end: int) -> dict[int, float]:
    found = {}
    for element, first, last in _elements(file, start, end):
        if element in (_YAW, _PITCH, _ROLL) and last - first in (4, 8):
            file.seek(first)
            (found[element],) = struct.unpack(">f" if last - first == 4 else ">d", file.read(last - first))
    return found


def _of_angles(*, yaw: float, pitch: float, roll: float) -> Orientation:
    """Return the orientation of a Matroska projection; half a turn of yaw is a mirror, as FFmpeg has it."""
    if pitch != 0 or yaw not in (0, 180, -180):
        return UPRIGHT
    return Orientation(rotation=right_angle(-roll), mirrored=yaw != 0)


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each element of EBML that begins between two addresses."""
    position = start
    while position + 2 <= end:
        file.seek(position)
        head = file.read(12)
        kind, used = _number(head, keep_marker=True)
        length, more = _number(head[used:], keep_marker=False)
        first = position + used + more
        unknown = length == (1 << 7 * more) - 1
        last = end if unknown else first + length
        yield kind, first, last
        position = last


def _number(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Return a number of variable length, and its bytes."""
    size = 9 - data[0].bit_length()
    if size > 8 or len(data) < size:
        raise ValueError("no number of EBML")
    value = int.from_bytes(data[:size], "big")
    return (value if keep_marker else value & ((1 << 7 * size) - 1)), size


def of_packet(data: bytes) -> Orientation:
    """Return the orientation that a video's first packet asks for: a JPEG's EXIF, H.264's or HEVC's message.

    H.264 and HEVC are those of a byte stream, with start codes; any other packet is upright.
    """
    if data[:2] == b"\xff\xd8":
        return of_image(data)
    for unit in data[:_MAX_PACKET_HEAD].split(b"\0\0\1")[1:]:
        head = next((head for head in _MESSAGE_UNITS if unit.startswith(head)), None)
        asked = _of_messages(unit[len(head) :].replace(b"\0\0\3", b"\0\0")) if head else None
        if asked is not None:
            return asked
    return UPRIGHT


def _of_messages(messages: bytes) -> Orientation | None:
    """Return the orientation of supplemental messages (ITU-T H.264, D.1.27), None without one."""
    for kind, body in _messages(messages):
        bits = int.from_bytes(body[:3], "big")
        if kind == _DISPLAY_ORIENTATION and len(body) >= 3 and not bits >> 23:  # not a cancelled one
            across, down, turn = bits >> 22 & 1, bits >> 21 & 1, bits >> 5 & 0xFFFF
            # Flips come first, then a turn anticlockwise; both flips are half a turn.
            degrees = 180 * down - turn * 360 / (1 << 16)
            return Orientation(rotation=right_angle(degrees), mirrored=across != down)
    return None


def _messages(unit: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 2 < len(unit):
        numbers = []
        for _ in range(2):  # type and size: a byte of 255 goes on in the next
            number = 0
            while unit[position : position + 1] == b"\xff":
                number, position = number + 255, position + 1
            numbers.append(number + sum(unit[position : position + 1]))
            position += 1
        kind, size = numbers
        yield kind, unit[position : position + size]
        position += size


def fitting(angle: int, candidates: Iterable[Orientation | None]) -> Orientation:
    """Return the first candidate that has a decoder's angle; the angle alone where none has.

    Parameters
    ----------
    angle
        Degrees clockwise of the first row of the display matrix, which a mirror turns round.
    candidates
        Orientations by the file's bytes.
    """
    for asked in candidates:
        if asked is not None and (asked.rotation + 180 * asked.mirrored) % 360 == angle:
            return asked
    return Orientation(rotation=angle)


# All ones, in 32 bits.
_UNKNOWN = (1 << 32) - 1


def shown_seconds(path: Path) -> float | None:
    """Return how long the only video track of an MP4 or QuickTime file is shown, after its edit list.

    None stands for several tracks, one that does not say, and other containers.
    """
    try:
        movie = read_movie(path)
        header = next(box for name, box in boxes(movie) if name == b"mvhd")
        (scale,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
        (track,) = video_tracks(movie)
        head = next(box for name, box in boxes(track) if name == b"tkhd")
        form, start = (">Q", 28) if head[0] == 1 else (">I", 20)
        (duration,) = struct.unpack_from(form, head, start)
    except (struct.error, IndexError, ValueError, StopIteration):
        return None
    return duration / scale if scale and 0 < duration < _UNKNOWN else None
