"""`flowkit compare`: end-point errors between two sources of flow."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import StorePath
from .streams import echo

if TYPE_CHECKING:
    from flowkit.comparison.epe import Difference
    from flowkit.comparison.stores import CompareConfig, Comparison, VideoDifference
    from flowkit.remote import Location

_HEAD = f"{'EPE px: mean':>12} {'median':>9} {'95 %':>9} {'max':>9} {'codes':>8}  fields  video"


@click.command("compare")
@click.argument("a", type=StorePath(path_type=Path))
@click.argument("b", type=StorePath(path_type=Path))
@click.option(
    "--field",
    default="flow",
    show_default=True,
    help="Flow field of stores; flow_backward takes backward flow of folders too.",
)
@click.option("--field-b", help="Flow field of B where it is another, as in one store.  [default: --field's]")
@click.option(
    "--bound",
    "bound_px",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Range of the flow in folders of images, px.",
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    help="Step to take in folders whose names (flow_x_p3_) have several.",
)
@click.option(
    "--fields",
    "most_fields",
    type=click.IntRange(min=1),
    help="Compare so many fields a video, evenly spread.  [default: all]",
)
@click.option("--common", is_flag=True, help="Accept videos that only one of the two has.")
@click.option(
    "--max-epe", "max_epe_px", type=click.FloatRange(min=0), help="Largest mean error a video may have, px."
)
@click.option(
    "--pictures",
    "images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for images of the worst.",
)
@click.option(
    "--worst", type=click.IntRange(min=1), default=10, show_default=True, help="Videos drawn there."
)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    a: Location,
    b: Location,
    field: str,
    field_b: str | None,
    bound_px: float,
    step: int | None,
    most_fields: int | None,
    jobs: int | None,
    max_epe_px: float | None,
    common: bool,
    as_json: bool,
    images: Path | None,
    worst: int,
) -> None:
    """Compare the flow of B with that of A: end-point errors, and the fraction of codes changed.

    Codes are those of the default flow codec, on the grid of A's field.

    Each is a store or its address, a folder with a folder for each video, or one file. Files are .flo,
    KITTI's PNG, .npy or .npz of floats (a field or a whole video each), or images of u and v
    (flow_x_00001.jpg with flow_y_00001.jpg, denseflow's flow_x_p3_ and flow_x_m1_ too). Pixels without
    known flow do not count, and their number is said.

    Exit status: 0 comparable throughout and within --max-epe, 1 not, 2 nothing could be compared.
    """
    from flowkit.comparison.stores import CompareConfig, compare

    config = CompareConfig(
        a=a, b=b, field=field, field_b=field_b, bound_px=bound_px, step=step, most_fields=most_fields
    )
    with _progress() as on_video:
        found = compare(config, jobs=jobs or len(os.sched_getaffinity(0)), on_video=on_video)
    failings = found.failings(max_epe_px=max_epe_px, common=common)
    echo(json.dumps(_as_dict(found, failings)) if as_json else "\n".join(_lines(found)))
    if not as_json:
        _print_failings(failings)
    if images:
        _draw(images, config, found, most=worst)
    ctx.exit(1 if failings else 0)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, nothing elsewhere; yield the callback of each video."""
    from tqdm import tqdm

    with tqdm(unit="video", disable=None) as bar:

        def on_video(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_video


def _draw(folder: Path, config: CompareConfig, found: Comparison, *, most: int) -> None:
    from flowkit.view.panels import write_worst

    for path in write_worst(folder, config, found, most=most):
        echo(str(path), err=True)


def _print_failings(failings: list[str]) -> None:
    for line in failings:
        echo(line, err=True)


def _lines(found: Comparison) -> Iterator[str]:
    yield f"a {found.a}"
    yield f"b {found.b}"
    for option in found.options:
        yield f"  differs: {option}"
    if unknown := found.overall.n_unknown:
        total = unknown + found.overall.n_pixels
        yield f"left out: {unknown} of {total} pixels ({unknown / total:.1%}), unknown in a or b"
    yield _HEAD
    for video in sorted(found.videos, key=_rank):
        yield _line(video.difference, video.video_id)
    yield _line(found.overall, f"all {len(found.videos)} videos")


def _rank(video: VideoDifference) -> float:
    return -video.difference.epe_mean_px if video.difference else math.inf


def _line(numbers: Difference | None, name: str) -> str:
    if numbers is None or not numbers.n_pixels:
        return f"{'-':>12} {'-':>9} {'-':>9} {'-':>9} {'-':>8} {0:7}  {name}"
    return (
        f"{numbers.epe_mean_px:12.5f} {numbers.epe_median_px:9.4f} {numbers.epe_p95_px:9.4f} "
        f"{numbers.epe_max_px:9.3f} {numbers.codes_changed:8.3%} {numbers.n_fields:7}  {name}"
    )


def _as_dict(found: Comparison, failings: list[str]) -> dict[str, object]:
    return {"passes": not failings, "failings": failings} | {
        name: _without_nan(value) for name, value in dataclasses.asdict(found).items()
    }


def _without_nan(value: object) -> object:
    """Return the value with None for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
