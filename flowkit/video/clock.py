"""Presentation times that rise strictly, made from those that a file tells."""

from __future__ import annotations


class Clock:
    """Makes times rise strictly, and changes no time that already does.

    A time that stutters (repeats, or is up to a frame and a half late) is put half a frame behind
    its forerunner, so that the next good time stands. A clock that was set back runs on from the
    last time, one frame later, with its own intervals.

    Parameters
    ----------
    period
        Seconds between frames, on average.

    Attributes
    ----------
    last
        The time given last, in seconds; None before the first.
    """

    def __init__(self, period: float) -> None:
        self.last: float | None = None
        self._period = period
        self._offset = 0.0

    def read(self, told: float | None) -> tuple[float, bool]:
        """Give a frame's time in seconds, and whether it is another than the file told."""
        last, period = self.last, self._period
        if told is None:
            self.last = 0.0 if last is None else last + period
            return self.last, True
        time = told + self._offset
        if last is not None and time <= last:
            stutters = last - time <= 1.5 * period
            time = last + (period / 2 if stutters else period)
            if not stutters:
                self._offset = time - told
        self.last = time
        return time, time != told
