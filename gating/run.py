"""A whole run: every split (or fold) with every seed, and the table over all of them.

results = train(store, splits, train_preset("tiny"), options)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from flowkit.datasets import Split, split_from_csv, write_split
from flowkit.datasets.splits import splits_path
from flowkit.errors import FlowkitError, InvalidParameterError
from flowkit.remote import RemotePath
from flowkit.store.read.store import Store
from flowkit.validate import check_at_least, check_choice, check_positive
from gating.announcement import trial_lines
from gating.config import LoaderConfig
from gating.data.partition import PARTS, TrialData, plan_trial
from gating.distributed import ProcessGroup, join_process_group
from gating.evaluation.comparison import SplitKind, TrialComparison
from gating.evaluation.results import (
    RunData,
    RunResults,
    fusion_results,
    read_comparisons,
    utc_now,
    versions,
)
from gating.events import Event, OnEvent, ignore
from gating.frozen.trial import FrozenTrial
from gating.fusions import FUSIONS
from gating.run_folder import open_log, tensorboard_folder, trial_folder, write_results
from gating.train_config import TrainConfig
from gating.trial import Trial, TrialOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Options of a run, without effect on the trained weights.

    Parameters
    ----------
    out : Path
        Folder of the run.
    seeds : tuple of int
        One trial each, of each split or fold.
    folds : tuple of str or None
        Folds to test, of splits of folds; None is all.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch; None leaves them as they are.
    loader : LoaderConfig
        Workers and micro-batches.
    resume : bool
        Go on with an unfinished run.
    checkpoint_seconds : float
        Between checkpoints within an epoch, > 0.
    cache : Path or None
        Folder of frozen backbones' features; None is STORE.features, or `out` where that cannot be written.
    on_event : callable
        Receives each event of `gating.events`, in the main process.
    """

    out: Path
    seeds: tuple[int, ...] = (0,)
    folds: tuple[str, ...] | None = None
    device: str = "auto"
    threads: int | None = None
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
    resume: bool = False
    checkpoint_seconds: float = 300.0
    cache: Path | None = None
    on_event: OnEvent = ignore

    def __post_init__(self) -> None:
        """Check the seeds, the threads and the time between checkpoints."""
        if self.threads is not None:
            check_at_least("threads", self.threads, 1)
        check_positive("checkpoint_seconds", self.checkpoint_seconds)
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InvalidParameterError(f"seeds must be distinct numbers >= 0, got {self.seeds}")


def train(
    store: Store, splits: Sequence[Split], config: TrainConfig, options: RunOptions
) -> RunResults | None:
    """Train every trial, compare its fusions, write `results.json`, and return its content.

    Stages that have finished are loaded. All that can be checked of all trials is, before the first is
    trained: data, device, folder, weights, checkpoints and the first batch.

    Parameters
    ----------
    store, splits
        The clips and their division. Each trial's folder keeps its split. A copy goes beside the store,
        unless a file of that name is there or the folder cannot be written; an event "note" says so.
    config
        Of the training; its `seed` is replaced by each of the options'.
    options
        Folder, seeds and device.

    Returns
    -------
    RunResults or None
        None in all processes of a torchrun but the main one.

    Raises
    ------
    InputError
        The store or a split cannot be trained on.
    InvalidParameterError
        A fold, the fusion or the device does not exist, or the fusion cannot be fitted.
    CheckpointError
        The folder has checkpoints of another configuration or data, or an unfinished run without
        `RunOptions.resume`.
    TrainingError
        A loss is not finite; the checkpoints before it are kept.
    """
    with _checked(store, splits, config, options) as (process_group, plans):
        if process_group.is_main:
            for split in splits if not config.all_clips else ():  # that split is no choice of later commands
                if note := _keep_beside(store, split):
                    options.on_event({"event": "note", "split": split.name, "text": note})
        comparisons = [
            _trial(
                data,
                own,
                options,
                process_group=process_group,
                kind="all" if own.all_clips else split.kind,
            )
            for split, data, own in plans
        ]
        if not process_group.is_main:
            return None
        return _written(options.out, comparisons, plans[0][1], config)


def _keep_beside(store: Store, split: Split) -> str:
    """Write a split beside the store where none of its name is; return a note, "" if it is there now."""
    path = splits_path(store.path) / f"{split.name}.csv"
    if isinstance(path, RemotePath):
        return ""  # the run keeps its own, and nothing is written at an address
    if not path.exists():
        try:
            write_split(store.path, split)
        except OSError as error:
            return f"the split {split.name!r} is kept in the run alone: {error}"
        return ""
    try:
        with warnings.catch_warnings(action="ignore"):  # of listed videos that the store lacks
            there = split_from_csv(path, split.name, store, allow_missing=True)
    except FlowkitError as error:
        return f"the split {split.name!r} is kept in the run alone, and {path} left as it is: {error}"
    if (there.kind, there.parts, there.groups) == (split.kind, split.parts, split.groups):
        return ""
    return f"{path} is another split of that name and left as it is; the run keeps its own"


def plan(store: Store, splits: Sequence[Split], config: TrainConfig, options: RunOptions) -> list[Event]:
    """Go the way of `train` up to its first step, write nothing, and return each trial's event "trial".

    Raises
    ------
    FlowkitError
        As `train`, but for a loss that is not finite.
    """
    with _checked(store, splits, config, options) as (process_group, plans):
        return [
            _announced(data, own, process_group=process_group, loader=options.loader)
            for _, data, own in plans
            if process_group.is_main
        ]


@contextlib.contextmanager
def _checked(
    store: Store, splits: Sequence[Split], config: TrainConfig, options: RunOptions
) -> Iterator[tuple[ProcessGroup, list[tuple[Split, TrialData, TrainConfig]]]]:
    """Join the other processes, and yield them and the plans, checked up to the first step."""
    plans = _plans(store, splits, config, options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with join_process_group(options.device) as process_group:
        if process_group.is_main:
            _check_folder("out", options.out)
            if options.cache is not None:
                _check_folder("cache", options.cache)
        built = set()  # networks differ by the number of classes alone
        for _, data, own in plans:
            classes = len(data.classes)
            trial_options = _trial_options(data, own, options, process_group=process_group)
            _trial_class(own)(data, own, trial_options).check(networks=classes not in built)
            built.add(classes)
        process_group.barrier()
        yield process_group, plans


def _check_folder(name: str, folder: Path) -> None:
    """Make a folder and a temporary one in it, and remove again what was made."""
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".flowkit-", dir=folder):
            pass
    except OSError as error:
        raise InvalidParameterError(
            f"{name} must be a folder that can be written to, got {folder}: {error}; give another --{name}"
        ) from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _plans(
    store: Store, splits: Sequence[Split], config: TrainConfig, options: RunOptions
) -> list[tuple[Split, TrialData, TrainConfig]]:
    """Return each trial's split, data, and configuration with its seed."""
    check_choice("fusion", config.fusion, FUSIONS)
    if config.all_clips and config.head == "segment" and "features" in FUSIONS[config.fusion]().needs:
        raise InvalidParameterError(
            f"fusion {config.fusion!r} reads features, and where every clip trains (--all) networks have "
            "none of clips that they did not learn from; take another fusion, or --preset frozen"
        )
    found = []
    for split in splits:
        for fold in _folds(split, options.folds):
            for seed in options.seeds:
                own = dataclasses.replace(config, seed=seed)
                found.append((split, plan_trial(store, split, own, fold=fold), own))
    return found


def _announced(
    data: TrialData, config: TrainConfig, *, process_group: ProcessGroup, loader: LoaderConfig
) -> Event:
    lines = trial_lines(data, config, process_group=process_group, loader=loader)
    which = {"split": data.split, "part": data.part, "seed": config.seed}
    return {"event": "trial", **which, "lines": lines}


def summarise_run(out: Path, data: TrialData, config: TrainConfig) -> RunResults:
    """Write `results.json` anew from the comparisons of a run's folder, and return its content."""
    return _written(out, read_comparisons(out), data, config)


def _written(
    out: Path, comparisons: Sequence[TrialComparison], data: TrialData, config: TrainConfig
) -> RunResults:
    """Write `results.json` of these comparisons, and return its content."""
    table = fusion_results(comparisons, asked=config.fusion)
    results = RunResults(
        fusions=table.fusions,
        chosen=table.chosen,
        gains=table.gains,
        headroom=table.headroom,
        trials=table.trials,
        config=config,
        data=_run_data(data),
        versions=versions(),
        created=utc_now(),
    )
    write_results(out, results.to_json())
    return results


def _folds(split: Split, wanted: tuple[str, ...] | None) -> tuple[str | None, ...]:
    if split.kind == "subset":
        return (None,)
    if strays := [fold for fold in wanted or () if fold not in split.names]:
        raise InvalidParameterError(f"the split {split.name!r} has the folds {split.names}, got {strays}")
    return wanted or split.names


def _trial(
    data: TrialData, config: TrainConfig, options: RunOptions, *, process_group: ProcessGroup, kind: SplitKind
) -> TrialComparison:
    trial_options = _trial_options(data, config, options, process_group=process_group)
    with _logged(trial_options.folder, options.on_event, process_group) as on_event:
        trial_options = dataclasses.replace(trial_options, on_event=on_event)
        if process_group.is_main:
            on_event(_announced(data, config, process_group=process_group, loader=options.loader))
        comparison = _trial_class(config)(data, config, trial_options).run(kind=kind)
        if process_group.is_main:
            on_event({"event": "judged", "validation": dict(comparison.validation)})
    return comparison


def _trial_class(config: TrainConfig) -> type[Trial] | type[FrozenTrial]:
    return FrozenTrial if config.head == "clip" else Trial


def _trial_options(
    data: TrialData, config: TrainConfig, options: RunOptions, *, process_group: ProcessGroup
) -> TrialOptions:
    return TrialOptions(
        folder=trial_folder(options.out, data.split, data.part, config.seed),
        process_group=process_group,
        loader=options.loader,
        resume=options.resume,
        checkpoint_seconds=options.checkpoint_seconds,
        cache=options.cache,
        on_event=options.on_event,
    )


@contextlib.contextmanager
def _logged(folder: Path, on_event: OnEvent, process_group: ProcessGroup) -> Iterator[OnEvent]:
    """Yield an `on_event` that also writes the trial's log, and TensorBoard's where it is installed."""
    if not process_group.is_main:
        yield on_event
        return
    with open_log(folder) as log, _tensorboard(folder) as board:

        def log_all(event: Event) -> None:
            log(event)
            board(event)
            on_event(event)

        yield log_all


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[OnEvent]:
    """Yield a writer of each epoch's numbers for TensorBoard; without TensorBoard it does nothing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield ignore
        return

    def write(event: Event) -> None:
        if event["event"] == "epoch":
            for part in ("training", "validation"):
                for name, value in event[part].items():
                    if isinstance(value, float):
                        writer.add_scalar(f"{event['stage']}/{part}/{name}", value, event["epoch"])
            writer.flush()

    with SummaryWriter(tensorboard_folder(folder)) as writer:
        yield write


def _run_data(data: TrialData) -> RunData:
    record = data.record()
    return RunData(
        store=data.store.path,
        classes=data.classes,
        flow=record["flow"],
        clips={part: len(data.ids(part)) for part in PARTS},
        fingerprint=record["clips"],
    )
