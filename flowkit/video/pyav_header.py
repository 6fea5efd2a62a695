"""Facts of a stream by its header, as PyAV has them: counts, length, rate; headers are often wrong."""

from __future__ import annotations

import re

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from flowkit.video.source import DEFAULT_FPS

# Two fields, or a burst of a variable rate, are no fault of the average.
MOST_RATES_OF_A_GUESS = 8

# Their headers give a length; that of others is FFmpeg's estimate by what it finds at the file's end.
CONTAINERS_WITH_A_LENGTH = frozenset({"mov", "matroska", "avi", "flv", "asf", "mxf"})


def expected_packets(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the packets that a complete file has, None where that is not known."""
    if "mov" in container.format.name.split(",") and stream.frames:
        return len(stream.index_entries)  # those that an edit list hides are not in it
    return header_frames(stream)


def header_frames(stream: VideoStream) -> int | None:
    """Return the frames that the header counts, None where it counts none."""
    tagged = stream.metadata.get("NUMBER_OF_FRAMES", "")  # mkvmerge's
    return stream.frames or (int(tagged) if tagged.isdecimal() else None)


def header_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the stream's duration by the header; the container's only if there is no other stream."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))  # Matroska's
    if clock:
        hours, minutes, seconds = map(float, clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def frame_rate(stream: VideoStream) -> float:
    """Return the average rate; FFmpeg's guess where that is impossible (raw DV has its clock's, 60000)."""
    average, guessed = stream.average_rate, stream.guessed_rate
    if average and guessed and average > MOST_RATES_OF_A_GUESS * guessed:
        return float(guessed)
    return float(average or guessed or DEFAULT_FPS)
