"""`flowkit features`: features of clips or videos, for use elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowkit.errors import InvalidParameterError

from .cluster import cluster, dask_option, some_paths
from .options import StorePath, device_options, given_flags
from .reporter import show_extraction
from .streams import echo

if TYPE_CHECKING:
    from flowkit.executor import Executor
    from flowkit.extraction.sources import VideoSource
    from flowkit.remote import Location
    from flowkit.store.record import Failure
    from gating.backbone_features.output import FeatureWriter
    from gating.backbone_features.run import VideoFeatures

_OF_WINDOWS = ("window", "stride", "frames_per_window", "fields_per_window")
_OF_FLOW = ("fields_per_window", "flow_weights", "stack")
_OF_RGB = ("frames_per_window",)


@click.command("features")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=StorePath(path_type=Path))
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="NAME.h5: one HDF5 file; NAME.npz: one file; any other name: a folder of .npy.",
)
@click.option(
    "--joined",
    is_flag=True,
    help="One array a clip, rgb's columns and then flow's: ID.npy, as ActionFormer reads them; else "
    "ID_rgb.npy and ID_flow.npy, as video_features names them.",
)
@click.option(
    "--per",
    type=click.Choice(["clip", "segment", "window"]),
    default="window",
    show_default=True,
    help="Rows of a clip: one, the mean over its segments; one a segment; or one a window.",
)
@click.option("--window", type=int, default=16, show_default=True, help="Frames of a window.")
@click.option("--stride", type=int, default=8, show_default=True, help="Frames from one window to the next.")
@click.option(
    "--frames-per-window", type=int, default=1, show_default=True, help="Frames that are read of it."
)
@click.option(
    "--fields-per-window", type=int, default=1, show_default=True, help="Flow fields (or stacks) of it, too."
)
@click.option(
    "--segments", type=int, default=12, show_default=True, help="Of a clip, with --per clip or segment."
)
@click.option(
    "--streams",
    type=click.Choice(["both", "rgb", "flow"]),
    default="both",
    show_default=True,
    help="Backbones that are run.",
)
@click.option(
    "--run",
    metavar="RUN",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Take the backbones of a finished run's streams, or of a trial's: RUN/SPLIT/seedN.",
)
@click.option("--backbone", default="efficientnet_lite0", show_default=True, help="Of both streams.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, or a file.")
@click.option("--flow-weights", default="", help="Of the flow stream's backbone. [default: as --weights]")
@click.option(
    "--stack",
    type=int,
    help="Flow fields of one input, as 2 STACK channels. [default: one, as an image of x, y and length]",
)
@click.option("--fps", type=float, help="Resample raw videos by time to so many frames per second.")
@click.option("--ids", metavar="ID", multiple=True, help="Only this clip; can be repeated. [default: all]")
@click.option("--keep-suffix", is_flag=True, help="Keep the suffix of a raw video's file in its id.")
@device_options
@click.option(
    "--jobs", "-j", type=click.IntRange(min=1), help="Processes that extract videos. [default: one a core]"
)
@dask_option
@click.option("--quiet", "-q", is_flag=True, help="Failures and the summary alone.")
@click.pass_context
def command(
    ctx: click.Context, /, inputs: tuple[Location, ...], out: Path, joined: bool, **options: Any
) -> None:
    """Write backbone features of each clip to OUT; INPUT is a store, a video or a folder of videos.

    Without --run they are ImageNet's EfficientNet-Lite0. OUT.csv has the id, times, frames and label of
    each row. Videos are first extracted into a temporary store. The same command again computes only the
    clips that OUT lacks, so it also resumes an interrupted run. With --dask the cluster extracts, and the
    backbones run here.

    Exit status: 0 all written, 1 some failed (the rest is written), 2 nothing could start, 130 interrupted.
    """
    from gating.backbone_features.output import FeatureFiles
    from gating.backbone_features.run import open_run

    _check_rows(ctx)
    quiet, scratch = options.pop("quiet"), out.with_name(out.name + ".parts")
    dask = _dask(options.pop("dask"), inputs)
    with open_run(inputs, _options(quiet, scratch=scratch, **options)) as run:
        with FeatureFiles(out, run.settings, joined=joined).opened() as files:
            there, left = len(files.known.intersection(run.ids)), run.videos(files.known)
            with _cluster(dask, left, jobs=options["jobs"], folder=scratch) as executor:
                written, failed = _write(files, run.outcomes(files.known, executor=executor), quiet=quiet)
    echo(f"{out}: {written} clips written, {there} there before, {failed} failed")
    ctx.exit(failed > 0)


def _write(
    files: FeatureWriter, outcomes: Iterable[VideoFeatures | Failure], *, quiet: bool
) -> tuple[int, int]:
    """Write and say each outcome; return how many were written and how many failed."""
    from flowkit.store.record import Failure

    written = failed = 0
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            failed += 1
            echo(f"{outcome.source}: failed: {outcome.reason}: {outcome.detail}", err=True)
        else:
            files.write(outcome)
            written += 1
            if not quiet:
                echo(f"{outcome.video_id}: {len(outcome.ranges)} rows")
    return written, failed


def _dask(where: str | None, inputs: Sequence[Location]) -> str | None:
    """Return the value of --dask; raise UsageError if no input is extracted."""
    from gating.prediction import is_store

    if where and all(is_store(path) for path in inputs):
        raise click.UsageError("--dask extracts raw videos, and every INPUT is a store; leave it out")
    return where


def _cluster(
    dask: str | None, videos: Sequence[VideoSource], *, jobs: int | None, folder: Path
) -> AbstractContextManager[Executor | None]:
    """Return the executor of raw videos; None for this machine's processes, or where none is left."""
    paths, jobs = some_paths(videos), jobs or len(os.sched_getaffinity(0))
    return cluster(dask if videos else None, jobs=jobs, folder=folder.absolute().parent, inputs=paths)


def _check_rows(ctx: click.Context) -> None:
    """Raise InvalidParameterError if an option is given that the rows or streams asked for do not have."""
    per, streams = ctx.params["per"], ctx.params["streams"]
    unused = {
        f"--per {per}": ("segments",) if per == "window" else _OF_WINDOWS,
        f"--streams {streams}": {"rgb": _OF_FLOW, "flow": _OF_RGB}.get(streams, ()),
    }
    for choice, names in unused.items():
        if given := given_flags(ctx, names):
            raise InvalidParameterError(f"{' and '.join(given)} has no use with {choice}; leave it out")


def _options(quiet: bool, **values: Any) -> Any:
    from gating.backbone_features.options import FeatureOptions

    if not quiet:
        values["on_note"] = lambda text: echo(text, err=True)
        values["on_progress"] = show_extraction if sys.stderr.isatty() else lambda _: None
    return FeatureOptions(**values)
