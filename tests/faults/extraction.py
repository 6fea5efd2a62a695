"""A small extraction in one process, for fault injection: python extraction.py VIDEOS STORE.

Prints "committed <id>" for each video whose part was committed, "done" at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flowkit.executor import InlineExecutor
from flowkit.extraction import run as extraction
from flowkit.extraction.sources import find_sources
from flowkit.frames import ResizeRule


def main(videos: Path, store: Path) -> None:
    # Clips longer than four frames are committed in segments.
    config = extraction.ExtractConfig(
        backend="opencv", resize=ResizeRule(short_side=16), jobs=1, segment_frames=4
    )
    setup = extraction.prepare(find_sources([videos]), store, config)

    def say(progress: extraction.Progress) -> None:
        if progress.outcome is not None and progress.outcome.status == "stored":
            print("committed", progress.outcome.video_id, flush=True)

    with InlineExecutor() as executor:
        report = extraction.run(setup, on_progress=say, executor=executor)
    for failure in report.failures:
        print("failed", failure.to_json(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
