"""`flowkit fuse`: two streams that other tools computed → every fusion, and the gate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Function, Options, device_options, seed_options
from .reporter import TrainReporter
from .split_options import group_options
from .streams import echo

if TYPE_CHECKING:
    from flowkit.datasets import SplitRequest
    from gating import FuseConfig

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_STREAM = click.Path(path_type=Path, exists=True)


def _split_options(function: Function) -> Function:
    """Add the fields of `SplitRequest` that need no store."""
    for option in (
        click.option(
            "--allow-missing", is_flag=True, help="Leave out clips of --split that the streams lack."
        ),
        group_options,
        click.option(
            "--split",
            multiple=True,
            metavar="FILE.csv",
            help="Columns id and subset (train, test) or fold; may be given several times.",
        ),
        click.option(
            "--folds",
            type=click.IntRange(min=2),
            metavar="N",
            help="Each of N parts is the test set once.  [default: 5, without --split and --leave-one-out]",
        ),
    ):
        function = option(function)
    return function


@click.command("fuse")
@click.argument("a", type=_STREAM)
@click.argument("b", type=_STREAM)
@click.option(
    "--labels",
    required=True,
    type=_FILE,
    metavar="LABELS.csv",
    help="Table with the columns id (or path) and label.",
)
@_split_options
@click.option(
    "--prior", type=float, help="Weight of the gate's prior towards the best fixed weights. [default: 0.1]"
)
@click.option("--gate-epochs", type=int, help="Passes of the gate over the clips. [default: 6]")
@seed_options
@device_options
@click.option(
    "--out",
    "-o",
    metavar="OUT",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run. [default: runs/fuse-A-B]",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress; warnings and the table stay.")
def command(a: Path, b: Path, labels: Path, **options: Any) -> None:
    """Fuse two streams of the same clips that any tools computed: every fusion, and the gate.

    A and B are files .npz or .h5 with the keys

    \b
      ids       (N,) text
      features  (N, D), or (N, K, D) of K segments
      scores    (N, C), before softmax, with
      classes   (C,) text, the names of its columns
      maps      (N, C, h, w), that the gate reads

    of which ids and one of features, scores and maps are enough; or folders of ID.npy, the
    features (D,) or (K, D) of a clip each. They are joined on ids. There are exactly two.

    On features linear heads are fitted, as `flowkit train --preset frozen` does. Scores without
    features are taken as they are: they MUST come from networks that did not learn from any of
    these clips, or all figures are too good. The gate reads the maps of both, else the features
    of both. Heads, fusions and gate are fitted on the training clips of each split, by scores
    held out from what gave them.

    OUT keeps scores and results.json; `flowkit report OUT` makes a page of it. In both, and in
    the table, A stands for rgb and B for flow.
    """  # noqa: D301  # \b keeps the lines of the table
    from gating.fusing.run import FuseOptions, fuse
    from gating.run_folder import default_fusion

    from .fusion_table import print_table

    first, count = options.pop("seed"), options.pop("seeds")
    out = options["out"] or default_fusion(a, b)
    run = FuseOptions(
        out=out,
        seeds=tuple(range(first, first + count)),
        device=options["device"],
        threads=options["threads"],
        on_event=TrainReporter(quiet=options["quiet"]),
    )
    results = fuse(a, b, labels, splits=_request(options), config=_config(options), options=run)
    for line in (*results.data.inputs.values(), results.data.gate):
        echo(line, err=True)
    print_table(results, streams=results.data.streams)
    echo(f"\n{out}: the run; `flowkit report {out}` makes a page of it")


def _config(options: Options) -> FuseConfig:
    """Return the configuration with the values that are given; a warm-up is at most half of the epochs."""
    from gating.fusing.trial import FuseConfig

    config, prior, epochs = FuseConfig(), options["prior"], options["gate_epochs"]
    if prior is not None:
        config = dataclasses.replace(config, net=dataclasses.replace(config.net, prior=prior))
    if epochs is not None:
        warm = min(config.gate.warmup_epochs, epochs / 2)
        gate = dataclasses.replace(config.gate, epochs=epochs, warmup_epochs=warm)
        config = dataclasses.replace(config, gate=gate)
    return config


def _request(options: Options) -> SplitRequest:
    """Return the choice of splits of a command's options."""
    from flowkit.datasets import SplitRequest

    names = {field.name for field in dataclasses.fields(SplitRequest)}
    return SplitRequest(**{name: value for name, value in options.items() if name in names})
