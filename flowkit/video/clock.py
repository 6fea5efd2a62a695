"""The times of a video's frames, made to rise strictly."""

from __future__ import annotations

import math

# A slide show of a frame every ten seconds has no jumps.
MOST_PERIODS_OF_A_GAP = 8


class Clock:
    """Makes times rise strictly, and changes none that already does.

    A time that stutters (repeats, or is up to a frame and a half late) is put half a frame behind
    its forerunner, so that the next good time stands. A clock that was set back, or forward by more than
    the longest gap, runs on from the last time, one frame later, with its own intervals.

    Parameters
    ----------
    period
        Seconds between frames, on average.
    longest_gap
        Seconds between two frames that are still taken for true, however long the period is.

    Attributes
    ----------
    last
        The time given last, in seconds; None before the first.
    jumps
        Times that the clock was set back or forward.
    first_jump
        The time of the frame before the first jump and the jump's length, in seconds.
    """

    def __init__(self, period: float, longest_gap: float = math.inf) -> None:
        self.last: float | None = None
        self.jumps = 0
        self.first_jump = (0.0, 0.0)
        self._period = period
        self._longest_gap = max(longest_gap, MOST_PERIODS_OF_A_GAP * period)
        self._offset = 0.0

    def mended(self, stored: float) -> float:
        """Return a time of the file on the clock that runs on."""
        return stored + self._offset

    def read(self, stored: float | None) -> tuple[float, bool]:
        """Return a frame's time in seconds, and whether it differs from the file's."""
        last, period = self.last, self._period
        if stored is None:
            self.last = 0.0 if last is None else last + period
            return self.last, True
        time = self.mended(stored)
        if last is not None and last - 1.5 * period <= time <= last:
            time = last + period / 2
        elif last is not None and not last < time <= last + self._longest_gap:
            self._note_jump(last, time - last)
            time = last + period
            self._offset = time - stored
        self.last = time
        return time, time != stored

    def _note_jump(self, after: float, seconds: float) -> None:
        if not self.jumps:
            self.first_jump = (after, seconds)
        self.jumps += 1
