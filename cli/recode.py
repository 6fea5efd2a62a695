"""`flowkit recode`: a store with another flow codec, or without frames."""

from __future__ import annotations

from pathlib import Path

import click

from flowkit.store.codecs import FLOW_CODECS, bounded_names

from .streams import echo


@click.command("recode")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
@click.option("--flow-codec", type=click.Choice(list(FLOW_CODECS)), help="[default: the store's]")
@click.option(
    "--bound", "bound_px", type=float, help=f"Range of codec {bounded_names()}, px. [default: the store's]"
)
@click.option("--drop-frames", is_flag=True, help="Leave the RGB frames out.")
def command(
    store: Path, out: Path, flow_codec: str | None, bound_px: float | None, drop_frames: bool
) -> None:
    """Write STORE with another flow codec, or without its frames, as the store OUT.

    Only what changes is decoded. A finer codec keeps the errors of the coarser one before it.
    """
    from flowkit.store.tools.recode import recode

    options = recode(
        store,
        out,
        flow_codec=flow_codec,
        bound_px=bound_px,
        drop_frames=drop_frames,
        on_warning=lambda line: echo(line, err=True),
    )
    echo(f"{out}: flow {options.flow_codec}, frames {options.frame_codec}", err=True)
