"""The summary of each video of a store: facts, motion, a small image."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Generator, Sequence

import numpy as np

from flowkit.distribution import Distribution
from flowkit.errors import StoreError
from flowkit.executor import InlineExecutor, LocalExecutor, Worker
from flowkit.remote import Location
from flowkit.store.read.store import Store, open_store
from flowkit.store.record import VideoRecord
from flowkit.typing import UInt8
from flowkit.validate import check_at_least, check_choice, check_range
from flowkit.view.canvas import fit, thumbnail_webp
from flowkit.view.footage import Footage, Sample
from flowkit.view.motion import Motion, measure_motion
from flowkit.view.wheel import fitting_scale, flow_to_rgb

_THUMBNAIL_MOTION = 0.75
_FEW_VIDEOS = 2000
# 1.5 MiB take one core .3 s (440 fields of 64x64 px); two worker processes start in 1.1 s.
_SMALL_STORE_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SummaryConfig:
    """Settings of the summaries.

    Parameters
    ----------
    field
        The flow field that is measured.
    most_fields
        Fields measured of each video, evenly spread; None: all.
    thumbnail_height
        px; 0 leaves the images out.
    thumbnail_quality
        Of WebP, 1 to 100.
    """

    field: str = "flow"
    most_fields: int | None = None
    thumbnail_height: int = 72
    thumbnail_quality: int = 60

    def __post_init__(self) -> None:
        if self.most_fields is not None:
            check_at_least("most_fields", self.most_fields, 1)
        check_range("thumbnail_height", self.thumbnail_height, 0, 1024, unit="px")
        check_range("thumbnail_quality", self.thumbnail_quality, 1, 100)


def config_for(n_videos: int, *, field: str = "flow", most_fields: int | None = None) -> SummaryConfig:
    """Return the settings for a store of so many videos: beyond 2000 with smaller images.

    Images are most of a page; 10,000 of the smaller ones take about 12 MB.
    """
    if n_videos <= _FEW_VIDEOS:
        return SummaryConfig(field=field, most_fields=most_fields)
    return SummaryConfig(field=field, most_fields=most_fields, thumbnail_height=54, thumbnail_quality=40)


def default_jobs(store: Store) -> int:
    """Return the processes that suit a store: one a core, or 1 where the start of others takes longer."""
    small = store.info().bytes < _SMALL_STORE_BYTES
    return 1 if small else len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoSummary:
    """One video of a report."""

    video_id: str
    record: VideoRecord | None = None
    """None if it cannot be read."""
    motion: Motion | None = None
    thumbnail: bytes = b""
    """WebP: a frame, where the store has them, and the flow from it."""
    problem: str = ""
    """Reason why something is missing; empty if nothing is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Task:
    store: Location
    config: SummaryConfig
    ids: tuple[str, ...]


def summarise(
    store: Store, config: SummaryConfig, *, jobs: int = 1
) -> Generator[tuple[list[VideoSummary], Distribution], None, None]:
    """Yield summaries of a store's videos in batches as they end, with the distribution of |flow| of each.

    Parameters
    ----------
    store
        The store; worker processes open it again.
    jobs
        Worker processes; 1 works in this one.

    Raises
    ------
    InvalidParameterError
        The store has no such field.

    Notes
    -----
    A video that cannot be read has its reason as `problem`; the others go on.
    """
    names = [field.name for field in store.options.fields]
    check_choice("field", config.field, names, where=f"in {store.path}")
    tasks = [_Task(store=store.path, config=config, ids=ids) for ids in _batches(list(store), jobs)]
    with InlineExecutor() if jobs == 1 else LocalExecutor(jobs) as executor:
        for outcome in executor.run(_summarise_batch, tasks):
            if outcome.result is None:
                lost = [VideoSummary(video_id=name, problem=outcome.died) for name in outcome.task.ids]
                yield lost, Distribution()
            else:
                yield outcome.result


def _batches(ids: Sequence[str], jobs: int) -> list[tuple[str, ...]]:
    # Large enough that passing results costs little, small enough that the workers end together.
    size = max(1, min(16, len(ids) // (4 * jobs)))
    return [tuple(ids[k : k + size]) for k in range(0, len(ids), size)]


def _summarise_batch(task: _Task, _: Worker) -> tuple[list[VideoSummary], Distribution]:
    total = Distribution()
    store = _opened(task.store, os.getpid())
    return [_summarise_video(store, name, task.config, total) for name in task.ids], total


@functools.lru_cache(maxsize=1)
def _opened(path: Location, _pid: int) -> Store:
    return open_store(path)


def _summarise_video(store: Store, video_id: str, config: SummaryConfig, total: Distribution) -> VideoSummary:
    record = None
    try:
        clip = store[video_id]
        record = clip.record
        motion, speeds = measure_motion(
            clip, field=config.field, step=store.options.step, most_fields=config.most_fields
        )
        total.merge(speeds)
        thumbnail = b""
        if motion.n_fields and config.thumbnail_height:
            thumbnail = _thumbnail(store, video_id, config, motion)
    except (StoreError, OSError) as error:
        return VideoSummary(video_id=video_id, record=record, problem=str(error))
    return VideoSummary(video_id=video_id, record=record, motion=motion, thumbnail=thumbnail)


def _thumbnail(store: Store, video_id: str, config: SummaryConfig, motion: Motion) -> bytes:
    """Draw the field that moves more than three quarters of the others: neither still nor a cut."""
    order = np.argsort(motion.field_means_px, kind="stable")
    index = motion.fields[int(order[int(_THUMBNAIL_MOTION * (len(order) - 1))])]
    sample = Footage(store, video_id, field=config.field, max_px=1.0).sample(index)
    return thumbnail_webp(_pair(sample, config.thumbnail_height), config.thumbnail_quality)


def _pair(sample: Sample, height: int) -> UInt8:
    scale = fitting_scale(np.hypot(*sample.flow))
    images = [flow_to_rgb(sample.flow, max_px=scale)]
    if sample.frame is not None:
        images.insert(0, sample.frame)
    source_height, source_width = sample.flow.shape[1:]
    width = max(1, min(2 * height, round(source_width * height / source_height)))
    return np.concatenate([fit(image, width, height) for image in images], axis=1)
