"""Score the clips of a finished run anew, with other segments and crops; fit and compare all fusions.

results = evaluate(Path("runs/ucf101"), store, EvalOptions(segments=25, crops=10, ...))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch

from flowkit.datasets import Split, read_split
from flowkit.datasets.splits import VALIDATION, parse_split
from flowkit.store.read.store import Store
from flowkit.validate import check_choice, check_integer, check_range
from gating.compatibility import check_store_fits
from gating.config import MAX_SEGMENTS, CropCount, LoaderConfig
from gating.data.loader import ClipLoader
from gating.data.partition import TrialData, plan_trial
from gating.distributed import ProcessGroup, join_process_group
from gating.errors import CheckpointError
from gating.evaluation.results import RunResults
from gating.evaluation.scores import Networks
from gating.evaluation.trial_scores import Evaluation
from gating.events import OnEvent, ignore
from gating.frozen.trial import FrozenTrial
from gating.load import load_networks, load_out_of_fold, unfinished_stages
from gating.run import summarise_run
from gating.run_folder import TrialRecord, find_trials, split_path, trial_folder
from gating.train_config import TrainConfig
from gating.training.checkpoint import differences
from gating.trial import TrialOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvalOptions:
    """Options of `evaluate`.

    Parameters
    ----------
    segments : int
        Of each clip, 1 to `gating.config.MAX_SEGMENTS`.
    crops : {1, 5, 10}
        Of each segment.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch in this process; None leaves them as they are.
    loader : LoaderConfig
        Workers and micro-batches.
    amp : bool or None
        Mixed precision; None is as it was trained.
    scores : Path or None
        Folder for scores, comparisons and results.json; None is the run's own, which are replaced.
    on_event : callable
        Receives "unfinished", "scoring" and "note" of `gating.events`, in the main process.
    """

    segments: int = 25
    crops: CropCount = 1
    device: str = "auto"
    threads: int | None = None
    loader: LoaderConfig = dataclasses.field(default_factory=LoaderConfig)
    amp: bool | None = None
    scores: Path | None = None
    on_event: OnEvent = ignore

    def __post_init__(self) -> None:
        """Check both numbers under their own names, not as choices of `TrainConfig`."""
        check_integer("segments", self.segments, 1)
        check_range("segments", self.segments, 1, MAX_SEGMENTS)
        check_choice("crops", self.crops, get_args(CropCount))

    def applied_to(self, config: TrainConfig) -> TrainConfig:
        """Return a trial's configuration with these segments, crops and precision.

        Heads on whole clips keep the segments that they were fitted on.
        """
        amp = config.amp if self.amp is None else self.amp
        if config.head == "clip":
            return dataclasses.replace(config, amp=amp)
        return dataclasses.replace(config, test_segments=self.segments, test_crops=self.crops, amp=amp)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    record: TrialRecord
    split: Split
    data: TrialData
    config: TrainConfig


def evaluate(run: Path, store: Store, options: EvalOptions) -> RunResults | None:
    """Score every finished trial of a run, compare its fusions, and write and return `results.json`.

    All trials are compared with the store before the first is scored. Trials that have not finished
    are left out and reported.

    Parameters
    ----------
    run
        The run's folder.
    store
        With the clips; of a run that has no split of its own, from before, with that beside it.
    options
        Segments, crops, and device.

    Returns
    -------
    RunResults or None
        None in all processes of a torchrun but the main one.

    Raises
    ------
    CheckpointError
        No trial has finished, one is damaged, or its clips are not those of the store and split.
    InputError
        The store's flow is not as in training, or an older run's split is not beside it.
    InvalidParameterError
        There is no such device.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with join_process_group(options.device) as process_group:
        plans = list(_plans(run, store, options, process_group))
        if not plans:
            raise CheckpointError(f"no trial of {run} has finished; go on with `flowkit train --resume`")
        dest = options.scores or run
        for one in plans:
            _evaluate(one, dest, options, process_group)
        if not process_group.is_main:
            return None
        return summarise_run(dest, plans[0].data, plans[0].config)


def _plans(run: Path, store: Store, options: EvalOptions, process_group: ProcessGroup) -> Iterator[_Planned]:
    for record in find_trials(run):
        if missing := unfinished_stages(record):
            _report(options, process_group, "unfinished", record, stages=missing)
            continue
        for note in check_store_fits(record, store):
            _report(options, process_group, "note", record, text=note)
        split = _split(record, store)
        yield _Planned(
            record=record,
            split=split,
            data=_planned_data(record, store, split),
            config=options.applied_to(record.config),
        )


def _split(record: TrialRecord, store: Store) -> Split:
    """Return a trial's own split; of an older run, which has none, the one beside the store."""
    name, own = record.data["split"], split_path(record.folder)
    if own.is_file():
        return parse_split(own, name)
    split = read_split(store.path, name)
    # Training left out the validation part when it kept no split of its own.
    parts = {k: part for k, part in split.parts.items() if split.kind == "fold" or part != VALIDATION}
    return dataclasses.replace(
        split, parts=parts, groups={k: group for k, group in split.groups.items() if k in parts}
    )


def _planned_data(record: TrialRecord, store: Store, split: Split) -> TrialData:
    """Divide the split as in training, and check that its clips are those of the training."""
    part = record.data["part"]
    data = plan_trial(store, split, record.config, fold=part if split.kind == "fold" else None)
    there, here = dict(record.data), data.record()
    del there["flow"], here["flow"]  # `check_store_fits` compares it
    if found := differences(there, here):
        raise CheckpointError(
            f"{record.folder} was trained on other clips than {store.path} and its split {split.name!r} "
            f"give: {'; '.join(found)}. Name the store of the training with --store"
        )
    return data


def _evaluate(one: _Planned, dest: Path, options: EvalOptions, process_group: ProcessGroup) -> None:
    scored = one.data.train if one.config.all_clips else one.data.test
    _report(options, process_group, "scoring", one.record, clips=len(scored))
    folder = trial_folder(dest, one.data.split, one.data.part, one.config.seed)
    if one.config.head == "clip":
        frozen = TrialOptions(
            folder=folder, process_group=process_group, loader=options.loader, on_event=options.on_event
        )
        FrozenTrial(one.data, one.config, frozen).run(kind=one.split.kind)
        return
    networks = load_networks(one.record, device=process_group.device).networks

    def out_of_fold() -> Iterator[Networks]:
        for fold in range(len(one.data.folds)):
            yield load_out_of_fold(one.record, fold, final=networks, device=process_group.device)

    Evaluation(
        networks=networks,
        out_of_fold=out_of_fold,
        batches=ClipLoader(
            one.data,
            one.config,
            networks.inputs,
            process_group=process_group,
            loader_config=options.loader,
        ),
        folder=folder,
    ).run(one.split.kind)


def _report(
    options: EvalOptions, process_group: ProcessGroup, event: str, record: TrialRecord, **values: object
) -> None:
    if process_group.is_main:
        which = {"split": record.data["split"], "part": record.data["part"], "seed": record.config.seed}
        options.on_event({"event": event, **which, **values})
