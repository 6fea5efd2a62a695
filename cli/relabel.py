"""`flowkit relabel`: a store with other labels."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from .options import read_lines, shard_size_option
from .streams import echo


@click.command("relabel")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    required=True,
    type=click.File("rb"),
    help="CSV with the columns id and label; videos it does not name keep theirs.",
)
@click.option("--classes", type=click.File("rb"), help="Class names in order, one a line. [default: sorted]")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
@shard_size_option
def command(store: Path, labels: IO[bytes], classes: IO[bytes] | None, out: Path, shard_bytes: int) -> None:
    """Write STORE with other labels as the store OUT.

    Frames and flow are copied without decoding; STORE stays as it is.
    """
    from flowkit.datasets.text import csv_rows
    from flowkit.store.tools.combine import relabel

    rows = csv_rows("\n".join(read_lines(labels)), source="--labels")
    if not {"id", "label"} <= set(rows.fieldnames or []):
        raise click.BadParameter("expected the columns id and label", param_hint="--labels")
    given = {row["id"]: row["label"] for row in rows}
    names = None if classes is None else [line.strip() for line in read_lines(classes) if line.strip()]
    done = relabel(store, out, given, classes=names, shard_bytes=shard_bytes)
    echo(f"{out}: {len(done.relabelled)} labels changed, {len(done.labels)} classes", err=True)
