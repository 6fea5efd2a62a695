"""`flowkit demo`: every step once, on synthetic videos."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from .streams import echo

# Clips in which appearance or motion shows another class, and the other stream has a sign of that.
_MADE = (
    *("--classes", "4", "--frames", "12", "--groups", "20"),
    *("--reliability", "conflict", "--cue", "cross"),
)
# Few frames are enough for clips of twelve.
_PARTS = ("--fold", "0", "--group", r"_g(\d+)_", "--test-segments", "4")
_FILMED = "disc-sideways/disc-sideways_g01_c001"
_FOLDER = Path("flowkit-demo")
# A class needs a group each to test, for held-out scores, for a head's strength and to learn from.
_FEWEST_TO_TRAIN = 4


@click.command("demo")
@click.option(
    "--clips", type=click.IntRange(min=1), help="Clips per class.  [default: 60, without training 10]"
)
@click.option("--train/--no-train", default=True, show_default=True, help="Train on the store, and report.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Work in this new folder.  [default: {_FOLDER}]",
)
@click.option("--clean", is_flag=True, help="Work in a temporary folder, and delete it at the end.")
@click.pass_context
def command(ctx: click.Context, clips: int | None, train: bool, keep: Path | None, clean: bool) -> None:
    """Make labelled videos, extract and verify them, train a gated pair of streams, and draw the results.

    Each step is a command that is printed before it runs; the exit status is that of the first
    step that fails, 0 if none does. All files stay in one folder, and the last lines name three to
    look at. Training needs PyTorch; without it the demo leaves that out with a note.
    """
    trains = train and importlib.util.find_spec("torch") is not None
    clips = clips or (60 if trains else 10)
    if trains and clips < _FEWEST_TO_TRAIN:
        raise click.UsageError(
            f"training needs --clips {_FEWEST_TO_TRAIN} or more, got {clips}: a group of each class to test, "
            "for held-out scores, for the heads' strength and to learn from; add --no-train to make and "
            "extract so few"
        )
    with _folder(keep, clean=clean) as folder:
        for step in _steps(folder, clips, trains=trains):
            click.secho(f"\n$ flowkit {shlex.join(step)}", bold=True)
            status = ctx.find_root().command.main(step, standalone_mode=False)
            if status:
                ctx.exit(status)
    _show_end(folder, left_out=train and not trains, trains=trains, clean=clean)


@contextlib.contextmanager
def _folder(keep: Path | None, *, clean: bool) -> Iterator[Path]:
    """Yield the new folder of the files, which is deleted afterwards if it is a temporary one."""
    if clean:
        if keep is not None:
            raise click.UsageError("--keep and --clean exclude one another; give one")
        with tempfile.TemporaryDirectory(prefix="flowkit-demo-") as temporary:
            yield Path(temporary)
        return
    folder = keep or _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise click.UsageError(f"{error}; name another folder, --keep DIR, or take --clean") from error
    if not is_empty:
        raise click.UsageError(
            f"{folder} is there and not empty; remove it, name another folder, --keep DIR, or take --clean"
        )
    yield folder


def _steps(folder: Path, clips: int, *, trains: bool) -> list[list[str]]:
    videos, store, run = (str(folder / name) for name in ("videos", "out.h5", "run"))
    steps = [
        ["synth", videos, "--clips", str(clips), *_MADE],
        ["extract", videos, store],
        ["info", store],
        ["verify", store],
        ["view", store, "--html", "-o", str(folder / "store.html")],
        ["view", store, _FILMED, "-o", str(folder / "film.mp4")],
    ]
    if trains:
        folds = ("--folds", str(min(5, clips)))
        steps += [
            ["train", store, *folds, *_PARTS, "--out", run],
            ["report", run, "--store", store],
        ]
    return steps


def _show_end(folder: Path, *, left_out: bool, trains: bool, clean: bool) -> None:
    """Print what was left out, and the files to look at with the way to open them."""
    if left_out:
        echo("\nNot trained: that needs PyTorch (README, Start).")
    if clean:
        echo("\nAll steps went well; the files are deleted (--clean).")
        return
    shown = {
        "the store": folder / "store.html",
        "the report of the training": folder / "run" / "report.html",
        "frames and flow of one video": folder / "film.mp4",
    }
    echo(f"\nAll files are in {folder.absolute()}. To look at, each in a browser:")
    for name, path in shown.items():
        if trains or "run" not in path.parts:
            echo(f"  {name:<28}  {path.absolute().as_uri()}")
