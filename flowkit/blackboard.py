"""A few numbers that all processes of one run see."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from pathlib import Path


class Blackboard:
    """A few numbers that all processes of one run see: active workers, progress of each.

    Backed by a file that every process maps, because loky's workers are started afresh and
    inherit nothing. Each value has one writer; torn reads of an aligned 8-byte word do not
    occur on the machines we run on, and a stale value only delays a progress line.

    Parameters
    ----------
    path : Path
        The file; made by `create`, opened by the workers.
    """

    _HEADER, _SLOT = 8, 24  # active; then frames, fraction, pid for each worker

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, slots: int) -> Blackboard:
        """Make the file for `slots` workers in the system's folder for temporaries."""
        handle, name = tempfile.mkstemp(prefix="flowkit-run-")
        os.write(handle, bytes(cls._HEADER + cls._SLOT * slots))
        os.close(handle)
        return cls(Path(name))

    @property
    def active(self) -> int:
        """How many workers have a task now."""
        return int(struct.unpack_from("<q", self._memory, 0)[0])

    @active.setter
    def active(self, count: int) -> None:
        struct.pack_into("<q", self._memory, 0, count)

    def report(self, slot: int, frames: int, fraction: float) -> None:
        """Tell how far slot's task is: frames done, and its fraction in [0, 1]."""
        struct.pack_into("<qd", self._memory, self._HEADER + self._SLOT * slot, frames, fraction)

    def progress(self, slot: int) -> tuple[int, float]:
        """Return what `report` last told of this slot."""
        frames, fraction = struct.unpack_from("<qd", self._memory, self._HEADER + self._SLOT * slot)
        return int(frames), float(fraction)

    def sign_in(self, slot: int, pid: int) -> None:
        """Tell which process serves this slot; 0 is none."""
        struct.pack_into("<q", self._memory, self._HEADER + self._SLOT * slot + 16, pid)

    def pid(self, slot: int) -> int:
        """Return the process that serves this slot, 0 while it has not started."""
        return int(struct.unpack_from("<q", self._memory, self._HEADER + self._SLOT * slot + 16)[0])

    def close(self) -> None:
        """Unmap and remove the file."""
        self._memory.close()
        self.path.unlink(missing_ok=True)
