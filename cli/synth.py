"""`flowkit synth`: a labelled set of procedural videos."""

from __future__ import annotations

from pathlib import Path

import click

from .streams import echo


@click.command("synth")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--clips", default=20, show_default=True, help="Clips per label.")
@click.option("--classes", default=4, show_default=True, help="Appearances and motions in use, 2 to 8.")
@click.option(
    "--classes-from",
    type=click.Choice(["both", "product"]),
    default="both",
    show_default=True,
    help="A label follows from either of appearance and motion, or only from the two together.",
)
@click.option(
    "--reliability",
    type=click.Choice(["none", "noise", "conflict"]),
    default="none",
    show_default=True,
    help="Content of an unreliable modality: nothing of any class, or another class's signal.",
)
@click.option(
    "--fractions",
    type=(float, float, float),
    default=(1 / 3, 1 / 3, 1 / 3),
    metavar="CLEAN RGB FLOW",
    help="Fractions of clips that are clean, with unreliable appearance, with unreliable motion.  "
    "[default: a third each]",
)
@click.option(
    "--cue",
    type=click.Choice(["cross", "own", "none"]),
    default="none",
    show_default=True,
    help="Stream with a sign of the unreliable modality: the other one, its own, none.",
)
@click.option("--width", default=64, show_default=True, help="Frame width in px, even, at least 64.")
@click.option("--height", default=64, show_default=True, help="Frame height in px, even, at least 64.")
@click.option("--frames", default=20, show_default=True, help="Frames per clip.")
@click.option("--fps", default=25.0, show_default=True, help="Frames per second.")
@click.option("--groups", default=5, show_default=True, help="Groups for k-fold splits (g01, g02, …).")
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal sets.")
@click.option(
    "--codec",
    type=click.Choice(["mpeg4", "mjpeg", "h264"]),
    default="mpeg4",
    show_default=True,
    help="Codec.",
)
@click.option("--ground-truth", is_flag=True, help="Write the exact flow of every pair as .flo.")
@click.option("--jobs", default=1, show_default=True, help="Processes.")
def command(dest: Path, jobs: int, **settings: object) -> None:
    """Make a labelled set of small procedural videos in the new folder DEST.

    DEST/index.csv lists each clip with its label, appearance, motion, mode and group.
    """
    from tqdm import tqdm

    from flowkit.synth import SynthConfig, make_dataset

    config = SynthConfig(**settings)  # type: ignore[arg-type]  # one option per field, typed by click
    with tqdm(total=config.clips * len(config.labels), unit="clip", disable=None) as bar:
        clips = make_dataset(dest, config, lambda done, total: bar.update(), jobs=jobs)
    echo(f"{len(clips)} clips of {len(config.labels)} labels in {dest}: see index.csv")
