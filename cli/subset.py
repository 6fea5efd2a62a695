"""`flowkit subset`: some videos of a store as a store of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click


@click.command("subset")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--list",
    "ids",
    required=True,
    type=click.File(encoding="utf-8"),
    help="File with one id a line; - is standard input.",
)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
def command(store: Path, ids: TextIO, out: Path) -> None:
    """Write the listed videos of STORE as a store of their own.

    Frames and flow are copied without decoding. Class names and their order stay.
    """
    from flowkit.store.tools.combine import subset

    wanted = [line.strip() for line in ids if line.strip() and not line.startswith("#")]
    part = subset(store, out, wanted)
    click.echo(f"{out}: {len(part.records)} videos of {store}", err=True)
