"""`flowkit subset`: some videos of a store as a store of their own."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from .options import read_lines, shard_size_option
from .streams import echo


@click.command("subset")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--list",
    "ids",
    required=True,
    type=click.File("rb"),
    help="File with one id a line; - is standard input. A line that starts with # is a comment unless "
    "the store has that id.",
)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
@shard_size_option
def command(store: Path, ids: IO[bytes], out: Path, shard_bytes: int) -> None:
    """Write the listed videos of STORE as a store of their own.

    Frames and flow are copied without decoding. Class names and their order stay.
    """
    from flowkit.store.read.store import open_store
    from flowkit.store.tools.combine import subset

    lines = [line.strip() for line in read_lines(ids) if line.strip()]
    with open_store(store) as opened:
        comments = [line for line in lines if line.startswith("#") and line not in opened]
    if comments:
        echo(f"{ids.name}: {len(comments)} lines skipped as comments, as {comments[0][:60]!r}", err=True)
    part = subset(store, out, [line for line in lines if line not in comments], shard_bytes=shard_bytes)
    echo(f"{out}: {len(part.records)} videos of {store}", err=True)
