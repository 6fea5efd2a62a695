"""Export of a store to folders of raw frames or tar shards, with annotation lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flowkit.errors import FlowkitError, InputError, StoreError
from flowkit.executor import Executor
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.rawframes.destination import ANNOTATIONS
from flowkit.rawframes.export_plan import ExportConfig, ExportSetup, prepare
from flowkit.rawframes.export_worker import ExportOutcome, failed_unit, write_unit
from flowkit.rawframes.lists import list_files
from flowkit.rawframes.tar import index_json

REASONS: Final[Reasons] = (
    (InputError, "refused"),
    (StoreError, "store_error"),
    (FlowkitError, "write_error"),
    (OSError, "write_error"),
)
"""Errors that fail a unit, beside those of every task."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """The outcome of a run; `outcomes` has every unit, those of earlier runs too.

    `not_tried` counts units left when a full disk ended the run; `notes` lists what the annotation
    lists leave out.
    """

    outcomes: tuple[ExportOutcome, ...]
    not_tried: int
    notes: tuple[str, ...]

    @property
    def failures(self) -> tuple[ExportOutcome, ...]:
        """The units that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def clipped_fraction(self) -> float:
        """Fraction of the flow components that were clipped, in [0, 1]."""
        values = sum(outcome.values for outcome in self.outcomes)
        return sum(outcome.clipped for outcome in self.outcomes) / max(1, values)


def export(
    store: Path | str,
    dest: Path | str,
    *,
    config: ExportConfig | None = None,
    on_progress: Callable[[Progress[ExportOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ExportReport:
    """Write the clips of a store as other projects lay them out; a repeated call does only what is missing.

    Parameters
    ----------
    store : Path or str
        The store's file.
    dest : Path or str
        The folder to fill; may exist.
    config : ExportConfig, optional
        Every choice; its defaults (TSN's layout) without it.
    on_progress : callable
        Called with a `Progress` when a clip or shard ends and about five times a second between.
    executor : Executor, optional
        Runs the clips; `config.jobs` processes of this machine without it.

    Raises
    ------
    InvalidParameterError
        A choice does not fit the store.
    StoreOptionsError
        The destination was exported with other options.
    StoreError
        The store cannot be read, or another export is writing into the destination.
    """
    setup = prepare(store, dest, config or ExportConfig())
    return run(setup, on_progress=on_progress, executor=executor)


def run(
    setup: ExportSetup,
    *,
    on_progress: Callable[[Progress[ExportOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ExportReport:
    """Carry out a setup, then write the annotation lists of all exported clips.

    Parameters
    ----------
    setup : ExportSetup
        From `prepare`.
    on_progress : callable
        Called when a unit ends and about five times a second between.
    executor : Executor, optional
        Runs the units; `config.jobs` processes of this machine without it.

    Raises
    ------
    StoreBusyError
        Another export is writing into the destination.
    KeyboardInterrupt
        Workers are ended first; finished units are whole, a repeated run continues.
    """
    destination = setup.destination
    with destination.lock():
        destination.check_options(setup.options)
        destination.write_options(setup.options)
        tried = run_tasks(
            TaskKind(work=write_unit, fail=failed_unit, reasons=REASONS),
            setup.todo,
            jobs=setup.config.jobs,
            executor=executor,
            on_progress=on_progress,
            failed=len(setup.refused),
        )
        outcomes = (*setup.there, *setup.refused, *tried)
        notes = _write_lists(setup, outcomes)
    not_tried = len(setup.todo) - len(tried)
    return ExportReport(outcomes=outcomes, not_tried=not_tried, notes=tuple(notes))


def _write_lists(setup: ExportSetup, outcomes: Sequence[ExportOutcome]) -> list[str]:
    """Write the lists, or the shards' indexes; return notes on what they leave out."""
    notes: list[str] = []
    whole = [outcome for outcome in outcomes if outcome.status != "failed"]
    entries = {
        video_id: setup.members[video_id].entry()
        for video_id in sorted(video_id for outcome in whole for video_id in outcome.video_ids)
    }
    if setup.recipe.layout.form == "tar":
        # A reader of `<subset>-*.tar` must not find shards of an earlier division of the clips.
        planned = {unit.name for unit in setup.todo} | {outcome.name for outcome in whole}
        notes += [f"removed {name}, of an earlier export" for name in setup.destination.drop_others(planned)]
        texts = _shard_indexes(whole)
        texts["classes.txt"] = "".join(f"{name}\n" for name in setup.classes)
    else:
        prefix = setup.config.list_prefix
        if prefix is None:
            prefix = str(setup.destination.path) if setup.config.layout == "tsn" else ""
        lists, notes = list_files(setup.splits, entries, setup.classes, prefix=prefix)
        texts = {f"{ANNOTATIONS}/{name}": text for name, text in lists.items()}
    for name, text in texts.items():
        setup.destination.write_own(name, text)
    return notes


def _shard_indexes(whole: Sequence[ExportOutcome]) -> dict[str, str]:
    """Return an index for the shards of each subset, `<subset>.json`."""
    subsets: dict[str, dict[str, tuple[int, int]]] = {}
    for outcome in whole:
        subset = outcome.name.rpartition("-")[0]
        subsets.setdefault(subset, {})[outcome.name] = (len(outcome.video_ids), outcome.bytes)
    return {f"{subset}.json": index_json(subset, found) for subset, found in subsets.items()}
