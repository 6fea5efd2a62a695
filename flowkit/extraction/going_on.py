"""A long video goes on behind its committed frames by a seek, where the seek is proven to be exact.

Proven: the last committed frames, decoded again behind it, have the same times and become the same JPEGs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from flowkit.errors import StoreError, VideoError
from flowkit.frames import LazyFrame
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import SOUND, DecodeStatus
from flowkit.store.write.segments import frames_of_segment
from flowkit.video.reader import DecodeReport

COMPARED_FRAMES = 4

UNDISTURBED = DecodeStatus(status_reason="undisturbed so far")
"""Of a segment up to which every frame was decoded whole, in one size, at the time that the file gives."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CommittedEnd:
    """The end of a video's committed frames.

    Attributes
    ----------
    n_frames
        Number of committed frames.
    first_seconds
        Time of the video's first frame.
    times, jpegs
        Of the last ones: their times in seconds, and their bytes as they are stored.
    """

    n_frames: int
    first_seconds: float
    times: tuple[float, ...]
    jpegs: tuple[bytes, ...]

    @property
    def frames_before(self) -> int:
        """Number of committed frames before those of `times`."""
        return self.n_frames - len(self.times)

    def repeats(self, frames: Iterator[LazyFrame], encoded: Callable[[LazyFrame], bytes | None]) -> bool:
        """Take the last committed frames from a reading behind a seek; return whether they are the same.

        Parameters
        ----------
        frames
            From the first of `times` on.
        encoded
            Returns a frame's bytes as the store would have them.
        """
        try:
            for seconds, jpeg in zip(self.times, self.jpegs, strict=True):
                frame = next(frames, None)
                if frame is None or frame.pts_seconds != seconds or encoded(frame) != jpeg:
                    return False
        except VideoError:
            return False
        return True


def status_so_far(report: DecodeReport) -> DecodeStatus:
    """Return the status of a segment: undisturbed if a reading behind a seek would know all that matters."""
    counts = (report.skipped_frames, report.damaged_frames, report.pts_repaired, report.interlaced_frames)
    return SOUND if any(counts) else UNDISTURBED


def committed_end(parts: PartsFolder, video_id: str, n_segments: int, n_frames: int) -> CommittedEnd | None:
    """Return the end of a video's segments, of `n_frames` in all; None where a seek could not be proven.

    It can with frames in the store, and where nothing disturbed the reading up to the last segment.
    """
    if not n_segments:
        return None
    try:
        _, head = frames_of_segment(parts, video_id, 0, slice(1))
        last, tail = frames_of_segment(parts, video_id, n_segments - 1, slice(-COMPARED_FRAMES, None))
    except StoreError:
        return None  # a damaged one is found, and redone, when they are joined
    jpegs = [jpeg for _, jpeg in tail if jpeg is not None]
    if last.status_reason != UNDISTURBED.status_reason or len(jpegs) < len(tail):
        return None
    return CommittedEnd(
        n_frames=n_frames,
        first_seconds=head[0][0],
        times=tuple(pts for pts, _ in tail),
        jpegs=tuple(jpegs),
    )
