"""Read the status of an extraction, running or dead: videos done and left, pace, who holds it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flowkit import atomic
from flowkit.errors import InputError, StoreNotFoundError
from flowkit.extraction.watch import RunState
from flowkit.store import checked_hdf5
from flowkit.store.inventory import survey
from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.schema import FAILURES, INDEX_VIDEOS
from flowkit.untrusted_json import read_json, typed


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreStatus:
    """The status of a store.

    Attributes
    ----------
    store : str
    state : {"complete", "running", "stopped"}
        "stopped": a run ended before it was done, and left something to go on with.
    holder : str
        The process that writes it, and its machine; "" where none does.
    stored : int
        Videos in the store's own files.
    parts : int
        Finished videos that wait to be packed.
    failures : int
        Sources in the ledger of the store.
    run : RunState or None
        Of the run that is, or was last, at work; None where it left none.
    """

    store: str
    state: Literal["complete", "running", "stopped"]
    holder: str
    stored: int
    parts: int
    failures: int
    run: RunState | None

    @property
    def left(self) -> int | None:
        """Number of videos that the run has not tried; None where it is not known."""
        return None if self.run is None else self.run.total - self.run.done

    @property
    def seconds(self) -> float | None:
        """Seconds that the run had worked when it last gave a sign."""
        return None if self.run is None else (_time(self.run.updated) - _time(self.run.began)).total_seconds()

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the run last gave a sign."""
        return None if self.run is None else (datetime.now(UTC) - _time(self.run.updated)).total_seconds()

    @property
    def frames_per_second(self) -> float | None:
        """Frames of the run a second; None before there are any."""
        return self.run.frames / self.seconds if self.run is not None and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None where it is not known, or not running."""
        if self.run is None or self.state != "running" or not self.seconds or self.run.fraction < 0.01:
            return None
        return self.seconds * (1 - self.run.fraction) / self.run.fraction


def store_status(store: Path | str) -> StoreStatus:
    """Return the status of a store, without waiting for the run that writes it.

    Raises
    ------
    StoreNotFoundError
        There is neither a store nor a run's folder beside its path.
    StoreFormatError, StoreCorruptError
        The store's file is none, or damaged.
    """
    path = Path(store)
    parts = PartsFolder(path)
    if not path.exists() and not parts.path.is_dir():
        raise StoreNotFoundError(
            f"there is no store at {path}, and no run has begun one; name the STORE of `flowkit extract`"
        )
    holder = atomic.lock_holder(parts.path)
    files = survey(path)
    in_shards = [path] if files.exists else []
    counts = [_counts(one) for one in [*in_shards, *files.pending]]
    waiting, state = len(parts.committed_parts()), _run_state(parts)
    unfinished = bool(waiting or files.pending or state or parts.files() or not files.exists)
    return StoreStatus(
        store=str(path),
        state="running" if holder else ("stopped" if unfinished else "complete"),
        holder=holder,
        stored=sum(videos for videos, _ in counts),
        parts=waiting,
        failures=counts[0][1] if files.exists else 0,
        run=state,
    )


def _counts(path: Path) -> tuple[int, int]:
    """Return the numbers of videos and of failures that a file of a store lists."""
    with open_file(path) as file, checked_hdf5.contained(path):
        lengths = [
            checked_hdf5.dataset(file, name, dtype=None, shape=(None,)).shape[0]
            for name in (INDEX_VIDEOS, FAILURES)
        ]
    return lengths[0], lengths[1]


def _run_state(parts: PartsFolder) -> RunState | None:
    """Return the state of the last run; None where there is none, or it cannot be read."""
    try:
        state: RunState = typed("run", read_json(parts.state_path), RunState)
        _time(state.began), _time(state.updated)
    except (OSError, InputError, ValueError):
        return None
    return state


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
