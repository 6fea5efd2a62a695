"""`flowkit predict`: classes of clips, windows or videos, and their gate weights."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Options, StorePath, compute_options
from .prediction_table import WINDOW
from .reporter import show_extraction
from .streams import echo

if TYPE_CHECKING:
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
@click.option(
    "--window",
    metavar="N",
    type=click.IntRange(min=1),
    help="Predict each N frames of a clip by themselves. [default: the whole clip]",
)
@click.option(
    "--stride",
    metavar="M",
    type=click.IntRange(min=1),
    help="Frames from the start of a window to that of the next. [default: N]",
)
@compute_options
@click.option(
    "--jobs", "-j", type=click.IntRange(min=1), help="Processes that extract videos. [default: one a core]"
)
@click.option(
    "--flow-like",
    metavar="STORE",
    type=StorePath(path_type=Path),
    help="For a run on imported flow: a store that flowkit extract made as that flow was made; raw videos "
    "are extracted so.",
)
@click.option(
    "--csv",
    "csv_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a table, too: a row a clip or window, a column p_CLASS for the probability of each class.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per clip or window on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="The predictions alone; failures stay.")
@click.pass_context
def command(
    ctx: click.Context, /, inputs: tuple[Location, ...], run: Path, as_json: bool, **options: Any
) -> None:
    """Print the most probable classes of each clip; INPUT is a store, a video or a folder of videos.

    A store may be at an address, such as s3://bucket/out.h5. The gate predicts if it was better than
    the best fixed weights on the run's validation clips, else these do. Videos are first extracted with the
    options of the run's store, into a temporary store: nothing is written beside them.

    With --window, each window of a clip is predicted as a clip of these frames would be. They start at frames
    0, M, 2M, ...; the last is the last that fits wholly, and a shorter clip is one window.

    The file of --csv appears once all is predicted, with the columns video_id, source, label, reason and
    detail (of a clip that failed, else empty), predicted, weight_flow, weight_rgb, fallback and p_CLASS, and
    with --window first_frame, last_frame, start and end (s).

    Exit status: 0 all predicted, 1 some failed, 2 nothing could start.
    """
    from flowkit.store.record import Failure
    from gating.prediction import predict

    failed, top = False, options["top"]
    with _table(run, options) as add:
        for outcome in predict(inputs, run, _options(**options)):
            failed |= isinstance(outcome, Failure)
            add(outcome)
            if as_json:
                click.echo(_json(outcome, top))
            elif isinstance(outcome, Failure):
                echo(f"{outcome.source}: failed: {outcome.reason}: {outcome.detail}", err=True)
            else:
                echo(_lines(outcome, top))
    ctx.exit(failed)


def _table(run: Path, options: Options) -> AbstractContextManager[Callable[[Outcome], None]]:
    """Take --csv out of a command's options; return what adds a row to its file, or does nothing."""
    from gating.load import find_trial

    from .prediction_table import prediction_table

    path: Path | None = options.pop("csv_file")
    if path is None:
        return contextlib.nullcontext(lambda _: None)
    classes = find_trial(run).classes
    options["top"] = len(classes)
    return prediction_table(path, classes, windows=options["window"] is not None)


def _options(*, workers: int, quiet: bool, **values: Any) -> Any:
    from gating.config import LoaderConfig
    from gating.prediction import PredictOptions

    if not quiet:
        values["on_note"] = lambda text: echo(text, err=True)
        values["on_progress"] = show_extraction if sys.stderr.isatty() else lambda _: None
    return PredictOptions(loader=LoaderConfig(workers=workers), **values)


def _json(outcome: Outcome, top: int) -> str:
    values = dataclasses.asdict(outcome)
    for name in ("classes", "probabilities"):
        if name in values:
            values[name] = values[name][:top]
    if values.get("first_frame", 0) is None:  # of a whole clip
        for name in WINDOW:
            del values[name]
    return json.dumps(values, ensure_ascii=False)


def _lines(one: Prediction, top: int) -> str:
    window = "" if one.start is None else f"  {one.start:.2f} to {one.end:.2f} s"
    weights = "" if one.weights is None else f"  flow {one.weights[0]:.2f}, rgb {one.weights[1]:.2f}"
    fallback = " (fixed weights: its own are both zero)" if one.fallback else ""
    label = f"  (label {one.label})" if one.label else ""
    lines = [f"{one.video_id}{window}{weights}{fallback}{label}"]
    best = zip(one.classes[:top], one.probabilities[:top], strict=True)
    lines += [f"  {100 * probability:5.1f} %  {name}" for name, probability in best]
    return "\n".join(lines)
