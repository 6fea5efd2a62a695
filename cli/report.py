"""`flowkit report`: one page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import StorePath
from .streams import echo

if TYPE_CHECKING:
    from flowkit.remote import Location


@click.command("report")
@click.argument("run", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--store",
    type=StorePath(path_type=Path, dir_okay=False),
    help="Store of the clips' images.  [default: the store that was trained on, if it is there]",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page.  [default: report.html in RUN]",
)
@click.option(
    "--clips",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Most clips shown in each of the two sections with clips.",
)
def command(run: Path | None, store: Location | None, out: Path | None, clips: int) -> None:
    """Write one HTML page about RUN, the folder of a run; the newest one of runs/ by default.

    Accuracy of every fusion with its interval, the gate's gain in each class, its weights, the
    clips it saved or lost, confusion and calibration. The page needs no network.
    """
    from gating.report import newest_run, write_report

    echo(str(write_report(run or newest_run(), store=store, dest=out, clips=clips)))
