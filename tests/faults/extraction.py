"""A small extraction in one process, for fault injection: python extraction.py VIDEOS STORE.

Prints "committed <id>" for each video whose part was committed, "done" at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flowkit.executor import InlineExecutor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import find_sources
from flowkit.extraction.store_run import VideoOutcome
from flowkit.jobs import Progress
from flowkit.resize_rule import ResizeRule


def main(videos: Path, store: Path) -> None:
    # Clips longer than four frames are committed in segments.
    config = ExtractConfig(backend="opencv", resize=ResizeRule(short_side=16), jobs=1, segment_frames=4)

    def say(progress: Progress[VideoOutcome]) -> None:
        if progress.outcome is not None and progress.outcome.status == "stored":
            print("committed", progress.outcome.video_id, flush=True)

    with InlineExecutor() as executor:
        report = extract(find_sources([videos]), store, config=config, on_progress=say, executor=executor)
    for failure in report.failures:
        print("failed", failure.to_json(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
