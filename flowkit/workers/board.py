"""Numbers that all processes of a run share, and the process that runs a task."""

from __future__ import annotations

import dataclasses
import mmap
import struct
import tempfile
import time
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from flowkit import atomic

_NAME = "flowkit-run-"

Task = TypeVar("Task")


class Blackboard:
    """Numbers that all processes of a run share: active workers, progress of each.

    Backed by a file that every process maps, because loky's workers are started afresh and
    inherit nothing. Each value has one writer; torn reads of an aligned 8-byte word do not
    occur on the machines we run on, and a stale value only delays a progress line.

    Parameters
    ----------
    path : Path
        The file; made by `create`, opened by the workers.
    """

    _HEADER, _SLOT = 8, 32  # active; then frames, fraction, pid, beats for each worker

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, slots: int) -> Blackboard:
        """Make the file for `slots` workers in the system's folder for temporaries."""
        return cls(atomic.scratch_file(_NAME, bytes(cls._HEADER + cls._SLOT * slots)))

    @staticmethod
    def remove_dead() -> None:
        """Remove the files that dead processes of this host left, as `create` does."""
        atomic.sweep_temporaries({Path(tempfile.gettempdir()): _NAME})

    @property
    def active(self) -> int:
        """Number of workers that have a task now."""
        return int(struct.unpack_from("<q", self._memory, 0)[0])

    @active.setter
    def active(self, count: int) -> None:
        struct.pack_into("<q", self._memory, 0, count)

    def report(self, slot: int, frames: int, fraction: float) -> None:
        """Set the progress of a slot's task: frames done, and its fraction in [0, 1]."""
        struct.pack_into("<qd", self._memory, self._HEADER + self._SLOT * slot, frames, fraction)

    def progress(self, slot: int) -> tuple[int, float]:
        """Return the frames and the fraction that `report` last set for this slot."""
        frames, fraction = struct.unpack_from("<qd", self._memory, self._HEADER + self._SLOT * slot)
        return int(frames), float(fraction)

    def beat(self, slot: int) -> None:
        """Count a sign that a slot's task goes on, where its frames and fraction stay."""
        offset = self._HEADER + self._SLOT * slot + 24
        (count,) = struct.unpack_from("<q", self._memory, offset)
        struct.pack_into("<q", self._memory, offset, count + 1)

    def signs(self, slot: int) -> tuple[int, float, int]:
        """Return all that changes while a slot's task goes on: frames, fraction, beats."""
        (beats,) = struct.unpack_from("<q", self._memory, self._HEADER + self._SLOT * slot + 24)
        return *self.progress(slot), int(beats)

    def sign_in(self, slot: int, pid: int) -> None:
        """Set the process that serves this slot; 0 is none."""
        struct.pack_into("<q", self._memory, self._HEADER + self._SLOT * slot + 16, pid)

    def pid(self, slot: int) -> int:
        """Return the process that serves this slot, 0 while it has not started."""
        return int(struct.unpack_from("<q", self._memory, self._HEADER + self._SLOT * slot + 16)[0])

    def close(self) -> None:
        """Unmap and remove the file."""
        self._memory.close()
        atomic.discard(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AtWork(Generic[Task]):
    """A task that a worker has now.

    Attributes
    ----------
    task
    slot : int
        Number of the worker on the board.
    worker : str
        Its process, or its address in a cluster.
    """

    task: Task
    slot: int
    worker: str


@dataclasses.dataclass(slots=True)
class Standstill:
    """The time in which a task reports nothing new; it begins anew with each report."""

    progress: object = None
    since: float = dataclasses.field(default_factory=time.monotonic)

    def lasts_longer_than(self, seconds: float, *, progress: object) -> bool:
        """Take note of a task's progress as it is now."""
        now = time.monotonic()
        if progress != self.progress:
            self.progress, self.since = progress, now
        return now - self.since > seconds


class Board(Protocol):
    """The part of a blackboard that a worker uses."""

    @property
    def active(self) -> int:
        """Number of workers that share the cores now."""

    def report(self, slot: int, frames: int, fraction: float) -> None:
        """Set the progress of a slot's task."""

    def beat(self, slot: int) -> None:
        """Count a sign that a slot's task goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """The process that runs a task: its slot, the cores of all slots together, the board of the run."""

    slot: int
    jobs: int
    board: Board
    owns_gpu: bool = False
    """A GPU that its task uses is this process's own: what it fails at another worker may do."""

    def threads(self) -> int:
        """Return the number of cores that this worker's task may use now.

        The cores of idle workers go to the busy ones, so that one long video, or the last
        one of many, has them all.
        """
        active = max(1, self.board.active)
        return max(1, self.jobs // active + (1 if self.slot < self.jobs % active else 0))

    def report(self, frames: int, fraction: float) -> None:
        """Report the task's progress to the coordinator: frames done, fraction in [0, 1]."""
        self.board.report(self.slot, frames, fraction)

    def beat(self) -> None:
        """Show that the task goes on, though no further frame is done: it waits in turn, copies, computes."""
        self.board.beat(self.slot)
