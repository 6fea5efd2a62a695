"""`flowkit train`: store → two streams → gate → accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import StorePath, compute_options, seed_options
from .reporter import TrainReporter
from .split_options import split_options, take_folds, take_splits
from .streams import echo
from .train_options import (
    config_options,
    find_store,
    streams_option,
    take_parent,
    take_split_of_all,
    take_train_config,
)

if TYPE_CHECKING:
    from flowkit.remote import Location
    from gating import RunResults


@click.command("train")
@click.argument("store", type=StorePath(path_type=Path), required=False)
@click.option(
    "--fusion",
    help="gating, or the name of a fixed or learned fusion: then no gate is trained. All are compared. "
    "[default: gating]",
)
@click.option(
    "--out",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Folder of the run. [default: runs/STORE-PRESET]",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished run.")
@seed_options
@click.option(
    "--all",
    "all_clips",
    is_flag=True,
    help="Every clip trains and none is tested, for use by predict; the table and the choice of the fusion "
    "are of out-of-fold scores. No option of a split goes with it, but --group or --groups do.",
)
@click.option(
    "--extend",
    metavar="OLD",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A new run from the weights of the finished run OLD, with its splits, seeds and configuration but "
    "for what is given. Stages whose epochs are given train on, and the gate with them; without any, all do.",
)
@split_options
@streams_option
@config_options
@compute_options
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most clips at once; larger batches are accumulated.",
)
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Between checkpoints within an epoch; each epoch's end and Ctrl-C save one, too.",
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of frozen backbones' features.  [default: STORE.features, or below RUN]",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print what would be trained, train nothing.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; warnings and the table stay.")
def command(store: Location | None, **options: Any) -> None:
    """Train a spatial and a temporal stream on STORE and a gate that weighs them clip by clip, or one stream.

    STORE is a file or an address such as s3://bucket/out.h5; it defaults to $FLOWKIT_STORE, or the
    only store in this folder. Finished stages are
    not trained again. The test list is scored once, when all is trained; best epochs are
    picked by a part of the training list.

    RUN keeps checkpoints, log.jsonl, scores and results.json; `flowkit report RUN` makes a page
    of it. For several GPUs: torchrun --nproc-per-node N -m flowkit_cli train ...
    """
    import flowkit
    from gating.run_folder import default_run

    from .fusion_table import print_table

    path = find_store(store)
    reporter = TrainReporter(quiet=options.pop("quiet"))
    with flowkit.open(path) as opened:
        parent = take_parent(options)
        if parent is None:
            take = take_split_of_all if options["all_clips"] else take_splits
            splits, folds = take(opened, options), take_folds(options)
            first, count = options.pop("seed"), options.pop("seeds")
            seeds, out = tuple(range(first, first + count)), None
        else:
            splits, folds, seeds = [*parent.splits], parent.folds, parent.seeds
            old = parent.run.resolve()  # "." has no name
            out = old.with_name(f"{old.name}-extended")
        config = take_train_config(options, store=opened, parent=parent)
        options["out"] = options["out"] or out or default_run(path, config.preset)
        results = _train(opened, splits, config, folds=folds, seeds=seeds, on_event=reporter, **options)
    if results is not None:
        print_table(results)
        echo(f"\n{options['out']}: the run; `flowkit report {options['out']}` makes a page of it")


def _train(store: Any, splits: Any, config: Any, **options: Any) -> RunResults | None:
    """Run, or in a dry run say what would be trained; only the main one of several processes has results."""
    from gating.config import LoaderConfig
    from gating.run import RunOptions, plan, train

    loader = LoaderConfig(workers=options.pop("workers"), micro_batch=options.pop("micro_batch"))
    dry_run = options.pop("dry_run")
    run = RunOptions(loader=loader, **options)
    if not dry_run:
        return train(store, splits, config, run)
    for event in plan(store, splits, config, run):
        run.on_event(event)
    return None
