"""`flowkit eval`: a finished run, scored with other segments and crops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import StorePath, compute_options
from .reporter import trial_title
from .streams import echo

if TYPE_CHECKING:
    from flowkit.remote import Location
    from gating.events import Event


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--store",
    type=StorePath(path_type=Path, dir_okay=False),
    help="Store of the clips. [default: the store of the training]",
)
@click.option(
    "--segments", type=click.IntRange(min=1), default=25, show_default=True, help="Segments of a clip."
)
@click.option(
    "--crops", type=click.Choice([1, 5, 10]), default=1, show_default=True, help="Crops of a segment."
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write scores and results.json into this folder and leave the run's own.",
)
@compute_options
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most clips of as many segments as in training at once.",
)
@click.option("--amp/--no-amp", default=None, help="Mixed precision. [default: as trained]")
@click.option("--quiet", "-q", is_flag=True, help="The table alone; warnings stay.")
def command(run: Path, store: Location | None, scores: Path | None, **options: Any) -> None:
    """Score the clips of RUN, the folder of a run, again and compare all fusions.

    Each finished trial's test, validation and held-out clips are scored with --segments and --crops,
    every fusion is fitted again, and the run's scores/*.npz and results.json are replaced.
    """
    import flowkit
    from gating.rescoring import evaluate
    from gating.run_folder import recorded_store

    from .fusion_table import print_table

    with flowkit.open(store or recorded_store(run)) as opened:
        results = evaluate(run, opened, _options(scores=scores, **options))
    if results is not None:
        print_table(results)
        echo(f"\n{scores or run}: scores and results.json; `flowkit report {scores or run}` draws them")


def _options(*, workers: int, micro_batch: int, quiet: bool, **values: Any) -> Any:
    from gating.config import LoaderConfig
    from gating.rescoring import EvalOptions

    loader = LoaderConfig(workers=workers, micro_batch=micro_batch)
    return EvalOptions(loader=loader, on_event=_Reporter(quiet=quiet), **values)


class _Reporter:
    """Prints on standard error the trials scored and, even if quiet, those left out."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._noted: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Show one event of `gating.rescoring`."""
        trial = trial_title(event)
        if event["event"] == "unfinished":
            echo(f"{trial}: left out, not finished: {', '.join(event['stages'])}", err=True)
        elif event["event"] == "note":
            if event["text"] not in self._noted:  # the trials of a run share their store
                echo(f"note: {event['text']}", err=True)
            self._noted.add(event["text"])
        elif not self._quiet:
            echo(f"{trial}: scoring {event['clips']} clips", err=True)
