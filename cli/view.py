"""`flowkit view`: images and films of flow, and a page of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Options, StorePath
from .streams import echo

if TYPE_CHECKING:
    from flowkit.remote import Location
    from flowkit.store.read.store import Store
    from flowkit.view.footage import Footage


@click.command("view")
@click.argument("store", type=StorePath(path_type=Path))
@click.argument("video_id", required=False)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; of a video its suffix chooses: .png a strip, .mp4 or .gif a film. "
    "[default: named after the video or the store, here]",
)
@click.option("--html", is_flag=True, help="Report the whole store on one page that needs no network.")
@click.option("--field", default="flow", show_default=True, help="Flow field.")
@click.option("--start", type=click.IntRange(min=0), default=0, help="First field shown.  [default: 0]")
@click.option("--stop", type=click.IntRange(min=1), help="Field to stop before.  [default: the end]")
@click.option(
    "--columns", type=click.IntRange(min=1), default=6, show_default=True, help="Fields in a strip."
)
@click.option(
    "--pictures",
    "most_images",
    type=click.IntRange(min=1),
    help="Most images of a film, evenly spread.  [default: 100 of a .gif, all of an .mp4]",
)
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Of a film.  [default: as the video plays]"
)
@click.option(
    "--width", type=click.IntRange(16, 4096), default=240, show_default=True, help="Of each panel, px."
)
@click.option(
    "--max-px",
    type=click.FloatRange(min=0, min_open=True),
    help="Magnitude of full colour.  [default: fits the video]",
)
@click.option(
    "--fields",
    "most_fields",
    type=click.IntRange(min=1),
    help="With --html: fields measured a video, evenly spread; shot cuts are not looked for.  [default: all]",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    help="With --html: processes.  [default: one a core, 1 for a small store]",
)
def command(store: Location, video_id: str | None, **options: object) -> None:
    """Draw one video VIDEO_ID of STORE, or report on the whole STORE with --html.

    STORE is a file or an address such as s3://bucket/out.h5.

    Hue is the direction of flow (the Middlebury wheel), saturation its magnitude; every image
    carries the legend and its scale.
    """
    from flowkit.store.read.store import open_store

    if options["html"] == (video_id is not None):
        raise click.UsageError("name a VIDEO_ID to draw, or give --html for a page of the whole store")
    with open_store(store) as opened:
        path = _report(opened, options) if video_id is None else _draw(opened, video_id, options)
    echo(str(path))


def _draw(store: Store, video_id: str, options: Options) -> Path:
    from flowkit.video.writer import FILM_SUFFIXES
    from flowkit.view.canvas import file_name, write_image
    from flowkit.view.footage import Footage
    from flowkit.view.panels import strip

    path = options["out"] or Path(f"{file_name(video_id)}.png")
    chosen = {name: options[name] for name in ("field", "start", "stop", "max_px")}
    footage = Footage(store, video_id, **chosen)
    if path.suffix.lower() in FILM_SUFFIXES:
        _film(path, footage, options)
    else:
        write_image(path, strip(footage, columns=options["columns"], tile_width=options["width"]))
    return path


def _film(path: Path, footage: Footage, options: Options) -> None:
    from flowkit.video.writer import write_film
    from flowkit.view.panels import film

    most = options["most_images"] or (100 if path.suffix.lower() == ".gif" else len(footage.range))
    indices = footage.spread(most)
    # Fewer images than fields take as long to play as the video does.
    fps = options["fps"] or footage.clip.record.fps * len(indices) / len(footage.range)
    write_film(path, film(footage, indices, tile_width=options["width"]), fps=fps)


def _report(store: Store, options: Options) -> Path:
    from tqdm import tqdm

    from flowkit.distribution import Distribution
    from flowkit.view.page import write_page
    from flowkit.view.summary import config_for, default_jobs, summarise

    path = options["out"] or Path(f"{store.path.name}.html")
    config = config_for(len(store), field=options["field"], most_fields=options["most_fields"])
    jobs = options["jobs"] or default_jobs(store)
    rows, speeds = [], Distribution()
    with tqdm(total=len(store), unit="video", disable=None) as bar:
        for batch, measured in summarise(store, config, jobs=jobs):
            rows += batch
            speeds.merge(measured)
            bar.update(len(batch))
    write_page(path, store, rows, speeds=speeds, config=config)
    return path
