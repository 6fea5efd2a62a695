"""The stages of an extraction: the seconds of each, and the one that limits the others."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping

STAGES = ("decode", "resize", "jpeg", "upload", "solve", "download", "encode", "write")
"""In the order of the work. "encode" is that of flow, "jpeg" that of frames."""

GPU_STAGES = ("upload", "solve", "download")
"""Stages of a GPU where there is one; an engine of the CPU solves on the cores and copies nothing."""


class StageClock:
    """Seconds of work per stage, summed over threads; waiting is no work."""

    def __init__(self) -> None:
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a `with` block to stage `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - began})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count time that was measured elsewhere."""
        with self._lock:
            for name, each in seconds.items():
                self.seconds[name] += each


def stage_fps(seconds: Mapping[str, float], frames: int) -> dict[str, float]:
    """Return the frames of each stage per second of its own work; stages without any are absent."""
    return {stage: frames / seconds[stage] for stage in STAGES if seconds.get(stage, 0.0) > 0}


def limiting_stage(seconds: Mapping[str, float], *, cores: int, gpu_lanes: int = 0) -> str:
    """Return the stage that more of the same machine would speed up first.

    The stages on the cores share them, so that all of their work counts against the cores, and
    the longest of them is named; a GPU's stages each have a unit of their own, beside the cores.

    Parameters
    ----------
    seconds : mapping
        Of work per stage, summed over threads; at least one is above zero.
    cores : int
        That work at once.
    gpu_lanes : int
        Batches that all GPUs together have in work at once when they are busy; 0 without a GPU.
    """
    there = {stage: seconds[stage] for stage in STAGES if seconds.get(stage, 0.0) > 0}
    beside = {stage: there.pop(stage) for stage in GPU_STAGES if gpu_lanes and stage in there}
    loads = {stage: each / gpu_lanes for stage, each in beside.items()}
    if there:
        loads[max(there, key=there.__getitem__)] = sum(there.values()) / cores
    return max(loads, key=loads.__getitem__)
