"""A finished run to go on from: what a run that starts from its weights needs to know of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from flowkit.datasets import Split
from flowkit.datasets.splits import parse_split
from flowkit.errors import InvalidParameterError
from gating.config import STAGES, Extension, StageKind
from gating.errors import CheckpointError
from gating.load import unfinished_stages
from gating.run_folder import TrialRecord, find_trials, split_path
from gating.train_config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParentRun:
    """A run that another one goes on from.

    Attributes
    ----------
    run : Path
        Its folder.
    config : TrainConfig
        Of its first trial.
    splits : tuple of Split
        Those of its trials.
    folds : tuple of str or None
        That were tested, of splits of folds; None without such a split.
    seeds : tuple of int
        Of each split and fold.
    """

    run: Path
    config: TrainConfig
    splits: tuple[Split, ...]
    folds: tuple[str, ...] | None
    seeds: tuple[int, ...]

    def extended(self, config: TrainConfig, *, going_on: Collection[StageKind] = ()) -> TrainConfig:
        """Return a configuration whose stages start from those of this run.

        Parameters
        ----------
        config
            The run's own, or with other epochs, rates or other choices.
        going_on
            Stages that train on; the others keep the run's weights. Empty is all. The gate trains on where a
            stream does.
        """
        trained = set(going_on or STAGES)
        if trained & {"rgb", "flow"}:
            trained.add("gate")
        kept = tuple(stage for stage in STAGES if stage not in trained)
        return dataclasses.replace(config, extends=Extension(run=str(self.run.resolve()), kept=kept))


def read_parent(run: Path) -> ParentRun:
    """Return what a new run needs of a finished one to go on from it.

    Raises
    ------
    CheckpointError
        The folder is no run, a trial has not finished, keeps no split, or a split lacks a fold or seed that
        another has.
    InvalidParameterError
        Its streams are heads on frozen backbones.
    """
    records = find_trials(run)
    config = records[0].config
    if config.head == "clip":
        raise InvalidParameterError(
            f"{run} has heads on frozen backbones, which are fitted to their end: there is nothing to go on "
            "with. Train again with other options: features are kept, and only heads and gate are made anew"
        )
    for record in records:
        if left := unfinished_stages(record):
            raise CheckpointError(
                f"{record.folder} has not finished: {', '.join(left)}; end it with `flowkit train --resume`"
            )
    splits = {record.data["split"]: _split(record) for record in records}
    seeds = tuple(sorted({record.config.seed for record in records}))
    folds = tuple(dict.fromkeys(r.data["part"] for r in records if splits[r.data["split"]].kind == "fold"))
    expected = len(seeds) * sum(len(folds) if one.kind == "fold" else 1 for one in splits.values())
    if len(records) != expected:
        raise CheckpointError(
            f"{run} has {len(records)} trials, expected {expected}: each fold and seed of each split; train "
            "the missing ones first"
        )
    return ParentRun(run=run, config=config, splits=tuple(splits.values()), folds=folds or None, seeds=seeds)


def _split(record: TrialRecord) -> Split:
    path = split_path(record.folder)
    if not path.is_file():
        raise CheckpointError(f"{record.folder} is of an earlier version and keeps no split; train it again")
    return parse_split(path, record.data["split"])
