"""`flowkit merge`: one store of several with equal options."""

from __future__ import annotations

from pathlib import Path

import click

from .options import shard_size_option
from .streams import echo


@click.command("merge")
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
@shard_size_option
def command(stores: tuple[Path, ...], out: Path, shard_bytes: int) -> None:
    """Write the videos of STORES, which must have equal options, as one store.

    Frames and flow are copied without decoding, and STORES stay as they are; for example those that
    `flowkit extract --shard 1/4`, 2/4, ... wrote on several machines.
    """
    from flowkit.store.tools.combine import merge

    merged = merge(stores, out, shard_bytes=shard_bytes)
    echo(f"{out}: {len(merged.records)} videos of {len(stores)} stores", err=True)
