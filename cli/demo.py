"""`flowkit demo`: the whole path once, on videos of its own making."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click


@click.command("demo")
@click.option("--clips", type=click.IntRange(min=1), default=2, show_default=True, help="Clips per class.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Work in this new folder and keep it.",
)
@click.pass_context
def command(ctx: click.Context, clips: int, keep: Path | None) -> None:
    """Make labelled videos, extract them, show the store and verify it.

    Each step is a command that is printed before it runs; the exit status is that of the first
    step that fails, 0 if none does.
    """
    with tempfile.TemporaryDirectory(prefix="flowkit-demo-") as temporary:
        folder = keep or Path(temporary)
        videos, store = folder / "videos", folder / "out.h5"
        steps = [
            ["synth", str(videos), "--clips", str(clips), "--frames", "12"],
            ["extract", str(videos), str(store)],
            ["info", str(store)],
            ["verify", str(store)],
        ]
        for step in steps:
            click.secho(f"\n$ flowkit {' '.join(step)}", bold=True)
            status = ctx.find_root().command.main(step, standalone_mode=False)
            if status:
                ctx.exit(status)
    click.echo(f"\nThe store is {store}." if keep else "\nAll steps went well; --keep DIR keeps the files.")
