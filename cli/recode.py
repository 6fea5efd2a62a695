"""`flowkit recode`: a store with another flow codec, or without frames."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("recode")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The store to write.")
@click.option("--flow-codec", type=click.Choice(["i8", "i16", "jpeg"]), help="[default: the store's]")
@click.option("--bound", "bound_px", type=float, help="Range of codec jpeg, px. [default: the store's]")
@click.option("--drop-frames", is_flag=True, help="Leave the RGB frames out.")
def command(
    store: Path, out: Path, flow_codec: str | None, bound_px: float | None, drop_frames: bool
) -> None:
    """Write STORE with another flow codec, or without its frames, as the store OUT.

    Only what changes is decoded. A coarser code does not become finer again: i8 recoded as i16
    keeps the errors of i8.
    """
    from flowkit.store.tools.recode import recode

    options = recode(store, out, flow_codec=flow_codec, bound_px=bound_px, drop_frames=drop_frames)
    click.echo(f"{out}: flow {options.flow_codec}, frames {options.frame_codec}", err=True)
