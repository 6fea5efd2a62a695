"""`flowkit export-model`: a finished run as one file for PyTorch alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .streams import echo


@click.command("export-model")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--out",
    "-o",
    "path",
    metavar="FILE.pt2",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; what it expects is in it as JSON, and beside it as FILE.pt2.json.",
)
@click.option("--segments", type=click.IntRange(min=1), help="Of a clip. [default: as the trial was tested]")
@click.option(
    "--crops", type=click.Choice([1, 5, 10]), help="Of a segment. [default: as the trial was tested]"
)
def command(run: Path, path: Path, **options: Any) -> None:
    """Write networks, preprocessing and chosen fusion of RUN as one graph, for use without flowkit.

    RUN is the folder of a run, whose first finished trial is taken, or of a trial: RUN/SPLIT/seedN. The graph
    is torch.export's: torch.export.load(FILE.pt2).module()(rgb, flow)["probabilities"], with RGB frames and
    flow in px of any number of clips and any size.
    """
    from gating.model_export import export_model

    made = export_model(run, path, **options)
    card = made.card
    inputs = "; ".join(f"{name} {one['dtype']} {one['shape']}" for name, one in card["inputs"].items())
    echo(f"{made.path}: {len(card['classes'])} classes; {inputs}; fusion {card['fusion']['name']}")
