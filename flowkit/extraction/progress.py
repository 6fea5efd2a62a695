"""How far a run is: what ended, and what the workers report in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from flowkit.executor import Executor
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.worker import VideoOutcome


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; `outcome` is the video that has just ended, if one has.

    `frames` counts decoded frames so far, `done` videos that ended, `fraction` is the share of
    the sources' bytes that has been worked through, in [0, 1].
    """

    done: int
    total: int
    failed: int
    frames: int
    fraction: float
    outcome: VideoOutcome | None = None


class Meter:
    """Adds up what ended and what the workers report between."""

    def __init__(
        self,
        sources: Sequence[VideoSource],
        failed: int,
        executor: Executor,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._executor = executor
        self._weights = {source.video_id: _size(source.path) for source in sources}
        self._whole = sum(self._weights.values())
        self._total = len(sources)
        self._done, self._failed, self._frames, self._bytes = 0, failed, 0, 0
        self._on_progress = on_progress

    def tick(self) -> None:
        """Tell how far the run is, between two videos."""
        self._tell(None)

    def count(self, source: VideoSource, outcome: VideoOutcome) -> None:
        """Count a video that ended, and tell."""
        self._done += 1
        self._failed += outcome.failure is not None
        self._frames += outcome.n_frames
        self._bytes += self._weights[source.video_id]
        self._tell(outcome)

    def _tell(self, outcome: VideoOutcome | None) -> None:
        board = self._executor.board
        flying = [board.progress(slot) for slot in range(self._executor.jobs)]
        mean = self._whole / self._total
        partly = self._bytes + sum(fraction for _, fraction in flying) * mean
        self._on_progress(
            Progress(
                done=self._done,
                total=self._total,
                failed=self._failed,
                frames=self._frames + sum(frames for frames, _ in flying),
                fraction=min(1.0, partly / self._whole),
                outcome=outcome,
            )
        )


def _size(path: Path) -> int:
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return 1 + sum(file.stat().st_size for file in files)
    except OSError:
        return 1
