"""`flowkit export`: store → folders of raw frames, or tar shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cluster import cluster, dask_option
from .options import StorePath

if TYPE_CHECKING:
    from flowkit.remote import Location

LAYOUTS = (
    *("tsn", "denseflow", "mmaction2", "feichtenhofer", "ixy", "rgb-flow"),
    *("flo", "kitti", "npy", "webdataset", "webdataset-images"),
)


@click.command("export")
@click.argument("store", type=StorePath(path_type=Path))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="Names and kinds of the files.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="KIND=NAME",
    help="Another file name, such as x=flow_x_%05d.jpg or, in trees, x=u/{id}/frame%06d.jpg; kinds: img, x, "
    "y (flo in layouts flo and kitti, whose suffix is the format: .flo, .png, .npy).",
)
@click.option(
    "--first-index",
    type=click.IntRange(min=0),
    help="Number of the first frame; flow moves with it. [default: the layout's]",
)
@click.option(
    "--first-flow-index",
    type=click.IntRange(min=0),
    help="Number of the first flow field. [default: with the frames]",
)
@click.option(
    "--content",
    type=click.Choice(["both", "frames", "flow"]),
    default="both",
    show_default=True,
    help="Frames, flow or both.",
)
@click.option(
    "--field", default="flow", show_default=True, help="Flow field of the store; both: forward and backward."
)
@click.option(
    "--bound", "bound_px", type=float, help="Range of flow images, px. [default: 20; a jpeg store's own]"
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of flow JPEGs.")
@click.option("--split", help="For webdataset: the split whose subsets get shards of their own.")
@click.option(
    "--clips-per-shard",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="For webdataset; there should be at least as many shards as a loader has workers.",
)
@click.option("--list-prefix", help="Prefix of the ids in the lists. [default: DEST for tsn, else nothing]")
@click.option(
    "--safe-names", is_flag=True, help="Spell spaces of the ids as %20, which the lists cannot hold."
)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Worker processes. [default: one a core]")
@dask_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per clip or shard on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; failures and the summary stay.")
@click.pass_context
def command(ctx: click.Context, /, store: Location, dest: Path, **options: Any) -> None:
    """Write the clips of STORE into the folder DEST in the layout of another project.

    STORE is a file or an address such as s3://bucket/out.h5.

    tsn, denseflow and mmaction2 are JPEG folders with those tools' names and numbers; flow is
    quantised as they do it, or copied as it is from a store of codec jpeg. feichtenhofer, ixy and
    rgb-flow have frames and flow in trees of their own. Annotation lists come with them, in
    DEST/annotations: of each split beside the store, and of all clips. flo, kitti (PNG of 16 bits) and npy
    have flow as numbers, px. webdataset is tar shards
    with the same fields for each clip. The same command again writes only missing and changed clips.

    Exit status: 0 all is there, 1 some failed or have spaces that keep them out of the lists, 2 nothing
    could start, 130 interrupted.
    """
    from flowkit.rawframes.export import ExportConfig, prepare, run

    from .reporter import Reporter

    reporter = Reporter(as_json=options.pop("as_json"), quiet=options.pop("quiet"))
    if options["jobs"] is None:
        del options["jobs"]
    dask, config = options.pop("dask"), ExportConfig(**options)
    setup = prepare(store, dest, config)
    reporter.plan_export(setup)
    where, folder = dask if setup.todo else None, dest.absolute().parent
    workers = cluster(
        where, jobs=config.jobs, folder=folder, inputs=[store] if isinstance(store, Path) else []
    )
    with workers as executor, reporter.running("done", kept=f"what is finished in {dest} is whole"):
        report = run(setup, on_progress=reporter.progress, executor=executor)
    ctx.exit(reporter.export_summary(dest, report))
