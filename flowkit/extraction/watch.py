"""A run told while it lasts: its state in a file beside the store, its events in a log.

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
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from flowkit import atomic
from flowkit._version import __version__
from flowkit.errors import InputError
from flowkit.jobs import Progress
from flowkit.store.parts_folder import PartsFolder

if TYPE_CHECKING:
    from flowkit.extraction.store_run import VideoOutcome

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
    stage: Literal["working", "packing", "interrupted", "failed"]
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
    """

    def __init__(
        self,
        parts: PartsFolder,
        command: str,
        *,
        total: int,
        already_stored: int,
        log_file: Path | None = None,
    ) -> None:
        self._parts = parts
        self._log = EventLog(log_file) if log_file is not None else None
        self._began = time.monotonic()
        self._written = -STATE_S
        self._since: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._state = RunState(
            command=command,
            host=atomic.host_name(),
            pid=os.getpid(),
            flowkit_version=__version__,
            began=now(),
            updated=now(),
            stage="working",
            total=total,
            already_stored=already_stored,
        )

    def __enter__(self) -> Self:
        state = self._state
        self._event(
            "run_started",
            command=state.command,
            store=str(self._parts.store_path.absolute()),
            host=state.host,
            pid=state.pid,
            versions=versions(),
            to_do=state.total,
            already_stored=state.already_stored,
        )
        self._write()
        return self

    def note(self, progress: Progress[VideoOutcome]) -> None:
        """Take note of the progress of the run."""
        before, self._since = self._since, {}
        for one in progress.at_work:
            self._since[one.name] = before.get(one.name) or now()
            if one.worker and self._last.get(one.worker) != one.name:
                self._last[one.worker] = one.name
                self._event("video_started", video_id=one.name, worker=one.worker)
        if progress.outcome is not None:
            self._note_outcome(progress.outcome, progress.worker)
        self._state = dataclasses.replace(
            self._state,
            done=progress.done,
            failed=progress.failed,
            frames=progress.frames,
            fraction=progress.fraction,
            at_work=tuple(
                VideoAtWork(
                    video_id=one.name, worker=one.worker, since=self._since[one.name], frames=one.frames
                )
                for one in progress.at_work
            ),
        )
        if time.monotonic() - self._written >= STATE_S:
            self._write()

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
        self._state = dataclasses.replace(self._state, stage="packing", at_work=(), fraction=1.0)
        self._event("packing", done=self._state.done, failed=self._state.failed)
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._state
        facts = {"done": state.done, "failed": state.failed, "left": state.total - state.done}
        facts["seconds"] = round(time.monotonic() - self._began, 3)  # type: ignore[assignment]
        if error is None:
            self._event("run_ended", **facts)
            self._parts.remove_state()
        elif isinstance(error, KeyboardInterrupt):
            self._state = dataclasses.replace(state, stage="interrupted", at_work=())
            self._event("run_interrupted", **facts)
        else:
            said = f"{type(error).__name__}: {error}"
            self._state = dataclasses.replace(state, stage="failed", at_work=(), error=said)
            self._event("run_failed", error=said, versions=versions(), last_videos=self._last, **facts)
        if error is not None:
            if self._parts.files():
                self._write()
            else:
                self._parts.remove_state()  # nothing is there to go on with
        if self._log is not None:
            self._log.close()

    def _event(self, event: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(event, **facts)

    def _write(self) -> None:
        """Write the state; where it cannot be written the run goes on, and says what matters when it ends."""
        self._written = time.monotonic()
        self._state = dataclasses.replace(self._state, updated=now())
        with contextlib.suppress(OSError):
            self._parts.write_state(json.dumps(dataclasses.asdict(self._state)))


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
