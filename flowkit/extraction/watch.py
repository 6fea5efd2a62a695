"""Write the state of a run to a file beside its store, and its events to a log.

The state, `<store>.parts/run.json`, is there as long as there is something to go on with: `flowkit status`
reads it. The log, where one is asked for, is JSON, one object a line, appended with one write each, so that
several runs may share a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from flowkit import atomic
from flowkit._version import __version__
from flowkit.errors import InputError
from flowkit.jobs import Progress
from flowkit.store.parts_folder import PartsFolder

if TYPE_CHECKING:
    from flowkit.extraction.store_run import VideoOutcome

Stage: TypeAlias = Literal["working", "packing", "interrupted", "failed"]

STATE_S = 2.0
"""Seconds between two writings of the state, at least."""

_PACKAGES = ("numpy", "h5py", "av", "opencv-contrib-python-headless", "deflate", "simplejpeg", "distributed")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoAtWork:
    """A video in the hands of a worker.

    Attributes
    ----------
    video_id : str
    worker : str
        Its process, or its address in a cluster; "" while the process starts.
    since : str
        Time at which it was first seen there, ISO 8601 in UTC.
    frames : int
        Frames done.
    """

    video_id: str
    worker: str
    since: str
    frames: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """The state of a run, as it was last written.

    Attributes
    ----------
    command : str
        "extract" or "import".
    host : str
    pid : int
        The process that coordinates it.
    flowkit_version : str
    began, updated : str
        ISO 8601 in UTC.
    stage : {"working", "packing", "interrupted", "failed"}
    total, done, failed : int
        Videos of this run: all, those that ended, and those of them that failed.
    already_stored : int
        Videos that were stored before.
    frames : int
        Frames so far.
    fraction : float
        Of the work, in [0, 1].
    at_work : tuple of VideoAtWork
    error : str
        What ended the run, if it failed.
    """

    command: str
    host: str
    pid: int
    flowkit_version: str
    began: str
    updated: str
    stage: Stage
    total: int
    done: int = 0
    failed: int = 0
    already_stored: int = 0
    frames: int = 0
    fraction: float = 0.0
    at_work: tuple[VideoAtWork, ...] = ()
    error: str = ""


class EventLog:
    """Append events to a file, one JSON object a line, each with its time.

    Parameters
    ----------
    path : Path
        Made if it is not there.

    Raises
    ------
    InputError
        It cannot be written.

    Warns
    -----
    RuntimeWarning
        A later line cannot be written: the run goes on without its log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(
                f"the log {path} cannot be written ({error.strerror}); name a file in a folder that exists "
                "and is yours"
            ) from error

    def write(self, event: str, **facts: object) -> None:
        """Append an event."""
        if self._descriptor < 0:
            return
        line = json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=False) + "\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "surrogateescape"))
        except OSError as error:
            self.close()
            warnings.warn(
                f"the log {self._path} cannot be written any more ({error.strerror}); the run goes on",
                RuntimeWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RunWatch:
    """Keep the state of a run and its log up to date; a context manager around it.

    Parameters
    ----------
    parts : PartsFolder
        The folder of parts, which this run holds.
    command : str
        Of `RunState`.
    total, already_stored : int
        Videos of this run, and those that need no work.
    log_file : Path, optional
    on_progress : callable, optional
        Called with each progress that is noted.
    """

    def __init__(
        self,
        parts: PartsFolder,
        command: str,
        *,
        total: int,
        already_stored: int,
        log_file: Path | None = None,
        on_progress: Callable[[Progress[VideoOutcome]], None] | None = None,
    ) -> None:
        self._parts, self._command = parts, command
        self._already_stored, self._on_progress = already_stored, on_progress
        self._log_file: Path | None = log_file
        self._log: EventLog | None = None
        self._began, self._began_at = time.monotonic(), now()
        self._written = -STATE_S
        self._since: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._progress: Progress[VideoOutcome] = Progress(
            done=0, total=total, failed=0, frames=0, fraction=0.0
        )

    def __enter__(self) -> Self:
        if self._log_file is not None:
            self._log = EventLog(self._log_file)
        self._event(
            "run_started",
            command=self._command,
            store=str(self._parts.store_path.absolute()),
            host=atomic.host_name(),
            pid=os.getpid(),
            versions=versions(),
            to_do=self._progress.total,
            already_stored=self._already_stored,
        )
        self._write("working")
        return self

    def note(self, progress: Progress[VideoOutcome]) -> None:
        """Take note of the progress of the run, and pass it on."""
        self._progress = progress
        before, self._since = self._since, {}
        for one in progress.at_work:
            self._since[one.name] = before.get(one.name) or now()
            if one.worker and self._last.get(one.worker) != one.name:
                self._last[one.worker] = one.name
                self._event("video_started", video_id=one.name, worker=one.worker)
        if progress.outcome is not None:
            self._note_outcome(progress.outcome, progress.worker)
        if time.monotonic() - self._written >= STATE_S:
            self._write("working")
        if self._on_progress is not None:
            self._on_progress(progress)

    def _note_outcome(self, outcome: VideoOutcome, worker: str) -> None:
        facts: dict[str, Any] = {"video_id": outcome.video_id, "worker": worker, "source": outcome.source}
        if outcome.failure is not None:
            facts |= {"stage": "failed", "reason": outcome.reason, "detail": outcome.failure.detail}
        else:
            facts |= {
                "stage": outcome.status,
                "n_frames": outcome.n_frames,
                "n_flow": outcome.n_flow,
                "seconds": outcome.seconds,
                "stages": outcome.stages,
                "warnings": outcome.warnings,
            }
        self._event("video_ended", **facts)
        if outcome.reason in ("worker_died", "timed_out"):
            # What is needed to find the cause: a decoder's fault may be an earlier video's.
            self._event(
                "worker_lost",
                video_id=outcome.video_id,
                worker=worker,
                reason=outcome.reason,
                last_videos=self._last | {worker: outcome.video_id},
                versions=versions(),
            )
        if worker:
            self._last[worker] = outcome.video_id

    def packing(self) -> None:
        """Note that the work is done and the store is being written."""
        self._progress = dataclasses.replace(self._progress, at_work=(), fraction=1.0)
        self._event("packing", done=self._progress.done, failed=self._progress.failed)
        self._write("packing")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        progress, seconds = self._progress, round(time.monotonic() - self._began, 3)
        left = progress.total - progress.done
        facts = {"done": progress.done, "failed": progress.failed, "left": left, "seconds": seconds}
        self._progress = dataclasses.replace(progress, at_work=())
        if error is None:
            self._event("run_ended", **facts)
            self._parts.remove_state()
        elif isinstance(error, KeyboardInterrupt):
            self._event("run_interrupted", **facts)
            self._leave("interrupted")
        else:
            said = f"{type(error).__name__}: {error}"
            self._event("run_failed", error=said, versions=versions(), last_videos=self._last, **facts)
            self._leave("failed", said)
        if self._log is not None:
            self._log.close()

    def _leave(self, stage: Stage, error: str = "") -> None:
        """Leave the state behind where there is something to go on with."""
        if self._parts.files():
            self._write(stage, error)
        else:
            self._parts.remove_state()

    def _event(self, event: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(event, **facts)

    def _write(self, stage: Stage, error: str = "") -> None:
        """Write the state; where it cannot be written the run goes on, and says what matters when it ends."""
        self._written = time.monotonic()
        progress = self._progress
        state = RunState(
            command=self._command,
            host=atomic.host_name(),
            pid=os.getpid(),
            flowkit_version=__version__,
            began=self._began_at,
            updated=now(),
            stage=stage,
            total=progress.total,
            done=progress.done,
            failed=progress.failed,
            already_stored=self._already_stored,
            frames=progress.frames,
            fraction=progress.fraction,
            at_work=tuple(
                VideoAtWork(
                    video_id=one.name, worker=one.worker, since=self._since[one.name], frames=one.frames
                )
                for one in progress.at_work
            ),
            error=error,
        )
        with contextlib.suppress(OSError):
            self._parts.write_state(json.dumps(dataclasses.asdict(state)))


def now() -> str:
    """Return the time, ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """Return what a report of a fault needs: the system, Python, flowkit and the packages it works with."""
    found = {"system": platform.platform(), "python": platform.python_version(), "flowkit": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
