"""Resume a long video by a seek behind its committed frames, where a check of the seek succeeds.

The last committed frames are decoded again behind the seek, and must have the same times and become the same
JPEGs. That is strong evidence of an exact seek, not a proof: a difference below JPEG's quantisation, or in a
later frame that refers to one before the seek, would not show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from flowkit.errors import StoreError
from flowkit.frames import LazyFrame
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import DecodeStatus
from flowkit.store.write.segments import frames_of_segment
from flowkit.video.reader import DecodeReport

COMPARED_FRAMES = 4

UNDISTURBED = DecodeStatus(status_reason="undisturbed so far")
"""Marks a segment up to which every frame was decoded whole, in one size, at the time that the file gives;
only a seek behind such a one can give the record that one reading would."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ResumePoint:
    """The committed frames behind which a video is resumed; a seek must reproduce the last ones.

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

    def matches(self, frames: Iterator[LazyFrame], encoded: Callable[[LazyFrame], bytes | None]) -> bool:
        """Take the frames of `times` behind a seek; return whether they are the committed ones.

        Parameters
        ----------
        frames
            From the first of `times` on.
        encoded
            Returns a frame's bytes as the store would have them.
        """
        for seconds, jpeg in zip(self.times, self.jpegs, strict=True):
            frame = next(frames, None)
            if frame is None or frame.pts_seconds != seconds or encoded(frame) != jpeg:
                return False
        return True


def is_undisturbed(report: DecodeReport) -> bool:
    """Return whether a reading so far met nothing that one behind a seek would not know of."""
    counts = (report.skipped_frames, report.damaged_frames, report.pts_repaired, report.interlaced_frames)
    return not any(counts)


def resume_point(parts: PartsFolder, video_id: str, n_segments: int, n_frames: int) -> ResumePoint | None:
    """Return where a video is resumed behind its segments, of `n_frames` in all; None: not by a seek.

    A seek needs stored frames to compare with, and an undisturbed last segment.
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
    return ResumePoint(
        n_frames=n_frames,
        first_seconds=head[0][0],
        times=tuple(pts for pts, _ in tail),
        jpegs=tuple(jpegs),
    )
