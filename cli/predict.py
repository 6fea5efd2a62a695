"""`flowkit predict`: classes of clips or videos, and their gate weights."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import StorePath, compute_options
from .streams import echo

if TYPE_CHECKING:
    from flowkit.extraction.store_run import VideoOutcome
    from flowkit.jobs import Progress
    from flowkit.remote import Location
    from gating.prediction import Outcome, Prediction


@click.command("predict")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=StorePath(path_type=Path))
@click.option(
    "--run",
    metavar="RUN",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a run, whose first finished trial predicts, or of a trial: RUN/SPLIT/seedN.",
)
@click.option("--ids", metavar="ID", multiple=True, help="Only this clip; can be repeated. [default: all]")
@click.option("--keep-suffix", is_flag=True, help="Keep the suffix of a raw video's file in its id.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes of a clip.")
@click.option("--segments", type=click.IntRange(min=1), help="Of a clip. [default: as the trial was tested]")
@click.option(
    "--crops", type=click.Choice([1, 5, 10]), help="Of a segment. [default: as the trial was tested]"
)
@compute_options
@click.option(
    "--jobs", "-j", type=click.IntRange(min=1), help="Processes that extract videos. [default: one a core]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per clip on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="The predictions alone; failures stay.")
@click.pass_context
def command(
    ctx: click.Context, /, inputs: tuple[Location, ...], run: Path, as_json: bool, **options: Any
) -> None:
    """Print the most probable classes of each clip; INPUT is a store, a video or a folder of videos.

    A store may be at an address, such as s3://bucket/out.h5. The gate predicts if it was better than
    the best fixed weights on the run's validation clips, else these do. Videos are first extracted with the
    options of the run's store, into a temporary store: nothing is written beside them.

    Exit status: 0 all predicted, 1 some failed, 2 nothing could start.
    """
    from flowkit.store.record import Failure
    from gating.prediction import predict

    failed = False
    for outcome in predict(inputs, run, _options(**options)):
        failed |= isinstance(outcome, Failure)
        if as_json:
            click.echo(_json(outcome))
        elif isinstance(outcome, Failure):
            echo(f"{outcome.source}: failed: {outcome.reason}: {outcome.detail}", err=True)
        else:
            echo(_lines(outcome))
    ctx.exit(failed)


def _options(*, workers: int, quiet: bool, **values: Any) -> Any:
    from gating.config import LoaderConfig
    from gating.prediction import PredictOptions

    if not quiet:
        values["on_note"] = lambda text: echo(text, err=True)
        values["on_progress"] = _show_progress if sys.stderr.isatty() else lambda _: None
    return PredictOptions(loader=LoaderConfig(workers=workers), **values)


def _json(outcome: Outcome) -> str:
    return json.dumps(dataclasses.asdict(outcome), ensure_ascii=False)


def _lines(one: Prediction) -> str:
    weights = "" if one.weights is None else f"  flow {one.weights[0]:.2f}, rgb {one.weights[1]:.2f}"
    fallback = " (fixed weights: its own are both zero)" if one.fallback else ""
    label = f"  (label {one.label})" if one.label else ""
    lines = [f"{one.video_id}{weights}{fallback}{label}"]
    best = zip(one.classes, one.probabilities, strict=True)
    lines += [f"  {100 * probability:5.1f} %  {name}" for name, probability in best]
    return "\n".join(lines)


def _show_progress(now: Progress[VideoOutcome]) -> None:
    """Rewrite one line of the terminal; clear it after the last video."""
    line = f"extracting: {now.done}/{now.total} videos, {100 * now.fraction:.0f} %, {now.failed} failed"
    click.echo(f"\r\033[K{line if now.done < now.total else ''}", nl=False, err=True)
