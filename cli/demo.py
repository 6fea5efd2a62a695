"""`flowkit demo`: every step once, on synthetic videos."""

from __future__ import annotations

import importlib.util
import shlex
import tempfile
from pathlib import Path

import click

# Clips in which appearance or motion shows another class, and the other stream has a sign of that.
_MADE = (
    *("--classes", "4", "--frames", "12", "--groups", "20"),
    *("--reliability", "conflict", "--cue", "cross"),
)
_PARTS = ("--folds", "5", "--fold", "0", "--group", r"_g(\d+)_", "--gate-data", "holdout")


@click.command("demo")
@click.option("--clips", type=click.IntRange(min=1), default=300, show_default=True, help="Clips per class.")
@click.option("--train/--no-train", default=True, show_default=True, help="Train on the store, and report.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Work in this new folder and keep it.",
)
@click.pass_context
def command(ctx: click.Context, clips: int, train: bool, keep: Path | None) -> None:
    """Make labelled videos, extract and verify them, train a gated pair of streams, and report.

    Each step is a command that is printed before it runs; the exit status is that of the first
    step that fails, 0 if none does. Training needs PyTorch; without it the demo ends before that
    with a note.
    """
    trains = train and importlib.util.find_spec("torch") is not None
    with tempfile.TemporaryDirectory(prefix="flowkit-demo-") as temporary:
        folder = keep or Path(temporary)
        for step in _steps(folder, clips, trains=trains):
            click.secho(f"\n$ flowkit {shlex.join(step)}", bold=True)
            status = ctx.find_root().command.main(step, standalone_mode=False)
            if status:
                ctx.exit(status)
    if train and not trains:
        click.echo("\nNot trained: that needs PyTorch (pip install '.[train]').")
    click.echo(f"\nAll of it is in {keep}." if keep else "\nAll steps went well; --keep DIR keeps the files.")


def _steps(folder: Path, clips: int, *, trains: bool) -> list[list[str]]:
    videos, store, run = (str(folder / name) for name in ("videos", "out.h5", "run"))
    steps = [
        ["synth", videos, "--clips", str(clips), *_MADE],
        ["extract", videos, store],
        ["info", store],
        ["verify", store],
    ]
    if trains:
        steps += [
            ["train", store, *_PARTS, "--preset", "tiny", "--out", run],
            ["report", run, "--store", store],
        ]
    return steps
