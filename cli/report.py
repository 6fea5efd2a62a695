"""`flowkit report`: a run's results as one page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("out", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the clips' images come from.  [default: the store that was trained on, if it is there]",
)
@click.option(
    "--out",
    "-o",
    "dest",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page.  [default: report.html in the run's folder]",
)
@click.option(
    "--clips",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Most clips shown that the gate saved or lost.",
)
def command(out: Path | None, store: Path | None, dest: Path | None, clips: int) -> None:
    """Write one HTML page about the run in the folder OUT, the newest one of runs/ by default.

    Accuracy of every fusion with its interval, what the gate gains in each class, what its weights
    are, the clips it saved or lost, confusion and calibration. The page needs no network.
    """
    from gating.report import newest_run, write_report

    click.echo(str(write_report(out or newest_run(), store=store, dest=dest, clips=clips)))
