"""Seconds of the stages and phases of an extraction, and what limits it."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

STAGES = ("decode", "resize", "jpeg", "upload", "solve", "download", "encode", "write")
"""In the order of the work. "encode" is that of flow, "jpeg" that of frames."""

GPU_STAGES = ("upload", "solve", "download")
"""Stages of a GPU where there is one; an engine of the CPU solves on the cores and copies nothing."""


PHASES = ("start", "videos", "pack")
"""Of a run: until work on the first video begins, until the last one ends, and what is left to pack."""


class StageClock:
    """Seconds of work per stage, summed over threads; waiting is no work."""

    def __init__(self) -> None:
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._lock = threading.Lock()

    def stage(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Count the time of a `with` block to stage `name`."""
        return _Stage(self, name)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count time that was measured elsewhere."""
        with self._lock:
            for name, each in seconds.items():
                self.seconds[name] += each


class _Stage:
    """A `with` block that is timed: a generator would take a third of the time of a tiny clip's stages."""

    def __init__(self, clock: StageClock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.add({self._name: time.perf_counter() - self._began})


def stage_fps(seconds: Mapping[str, float], frames: int) -> dict[str, float]:
    """Return the frames of each stage per second of its own work; stages without any are absent."""
    return {stage: frames / seconds[stage] for stage in STAGES if seconds.get(stage, 0.0) > 0}


def limiting_stage(
    seconds: Mapping[str, float],
    *,
    cores: int,
    gpu_lanes: int = 0,
    videos: int | None = None,
    phases: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """Return what limits: the stage that more of the same machine would speed up first, or no stage at all.

    The stages on the cores share them, so that all of their work counts against the cores, and
    the longest of them is named; a GPU's stages each have a unit of their own, beside the cores, and
    decoding has one core for each video. "start" and "pack" are those of `phases`, where they take longer;
    "waiting" is the time in which nothing that is measured was full: workers waited for the disk, a server,
    the coordinator or another's memory, or there were fewer videos left than workers.

    Parameters
    ----------
    seconds : mapping
        Of work per stage, summed over threads; at least one is above zero.
    cores : int
        That work at once.
    gpu_lanes : int
        Batches that all GPUs together have in work at once when they are busy; 0 without a GPU.
    videos : int, optional
        Of the run; default: enough for all cores.
    phases : mapping
        Elapsed seconds of a whole run's `PHASES`; without them a stage is named.
    """
    there = {stage: seconds[stage] for stage in STAGES if seconds.get(stage, 0.0) > 0}
    # Only a GPU uploads: an engine of the CPU that took its place is on the cores.
    by_gpu = gpu_lanes and "upload" in there
    beside = {stage: there.pop(stage) for stage in GPU_STAGES if by_gpu and stage in there}
    loads = {stage: each / gpu_lanes for stage, each in beside.items()}
    if there:
        loads[max(there, key=there.__getitem__)] = sum(there.values()) / cores
    if videos is not None and "decode" in there:
        loads["decode"] = max(loads.get("decode", 0.0), there["decode"] / min(cores, max(1, videos)))
    waiting = phases.get("videos", 0.0) - max(loads.values())
    others = {"start": phases.get("start", 0.0), "pack": phases.get("pack", 0.0), "waiting": waiting}
    loads |= {name: each for name, each in others.items() if each > 0}
    return max(loads, key=loads.__getitem__)


class PhaseClock:
    """Elapsed seconds of the phases of a run, by the ends of its videos."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._start: float | None = None

    def end_video(self, seconds: float) -> None:
        """Note the end of a video that took so long: the first one's beginning ends the start."""
        self._last = time.perf_counter()
        if self._start is None:
            self._start = max(0.0, self._last - self._began - seconds)

    def phases(self) -> dict[str, float]:
        """Return the seconds of each of `PHASES`, at the end of the run; nothing if no video ended."""
        if self._start is None:
            return {}
        times = (self._start, self._last - self._began - self._start, time.perf_counter() - self._last)
        return dict(zip(PHASES, times, strict=True))
