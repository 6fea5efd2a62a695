"""The extraction of one video in this process, for the tests of a worker's job."""

from __future__ import annotations

from pathlib import Path

from flowkit.executor import InlineExecutor
from flowkit.extraction.config import ExtractConfig, methods_of, store_options
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.extraction.worker import VideoTask, extract_video
from flowkit.store.parts_folder import PartsFolder
from tests.make.small import SMALL


class Stop(BaseException):
    """Ends a run in the middle, as a kill would; no handler of faults takes it for one."""


def make_task(source: VideoSource, store: Path, config: ExtractConfig = SMALL) -> VideoTask:
    return VideoTask(
        source=source,
        store=store,
        options=store_options(config, backend="cpu"),
        methods=methods_of(config),
        backend="auto",
        resize=config.resize,
        decoder=config.decoder,
        fps=config.fps,
        deinterlace=False,
        segment_frames=config.segment_frames,
    )


def extract_one(task: VideoTask) -> VideoOutcome:
    """Extract a task in this process."""
    PartsFolder(task.store).path.mkdir(exist_ok=True)
    with InlineExecutor() as executor:
        (outcome,) = executor.run(extract_video, [task])
    assert outcome.result is not None
    return outcome.result
