"""`flowkit import`: folders of raw frames and flow → store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from flowkit.store.codecs import DEFAULT_FLOW_CODEC, FLOW_CODECS

from .cluster import cluster, dask_option, some_paths
from .options import log_file_option, read_classes, read_list, shard_size_option

if TYPE_CHECKING:
    from flowkit.extraction.lists import ListEntry


LAYOUTS = (
    *("tsn", "denseflow", "mmaction2", "feichtenhofer", "ixy", "rgb-flow"),
    *("flo", "kitti", "npy"),
)


def _columns(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return the names of `path,frames`, () without any (a click callback)."""
    return tuple(name.strip() for name in value.split(",")) if value else ()


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    required=True,
    help="Names of the files, and of their folders.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="KIND=NAME",
    help="Another file name, such as x=u_%06d.jpg or, in trees, x=u/{id}/frame%06d.jpg; kinds: img, x, y "
    "(bx, by of denseflow's backward flow), flo of one file a field: flo=%06d.flo, .png (KITTI's) or .npy.",
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
    "--step",
    type=click.IntRange(min=1),
    help="Frames from the first to the second of a pair. [default: as denseflow's names say, else 1]",
)
@click.option(
    "--backward/--no-backward",
    default=None,
    help="Import backward flow too, as the field flow_backward. [default: where denseflow's names have it]",
)
@click.option(
    "--bound",
    "bound_px",
    type=float,
    default=20.0,
    show_default=True,
    help="Range that flow images were, or with codec jpeg are, quantised to, px.",
)
@click.option("--fps", type=float, default=25.0, show_default=True, help="Frames per second, for the times.")
@click.option(
    "--frames",
    "frame_codec",
    type=click.Choice(["jpeg", "none"]),
    default="jpeg",
    show_default=True,
    help="Import the RGB frames; none leaves them out.",
)
@click.option(
    "--pairing",
    type=click.Choice(["first", "second"]),
    default="first",
    show_default=True,
    help="Frame of its pair that has a flow image's number; second: TSN's own extractor.",
)
@click.option(
    "--flow-codec",
    type=click.Choice(list(FLOW_CODECS)),
    help="Of flow as numbers (flo, kitti, npy): "
    + "; ".join(f"{name}: {entry.help}" for name, entry in FLOW_CODECS.items())
    + f".  [default: {DEFAULT_FLOW_CODEC}; an existing store's own]",
)
@click.option(
    "--unknown",
    type=click.Choice(["refuse", "zero"]),
    default="refuse",
    show_default=True,
    help="Clips with pixels of unknown flow, which a store cannot hold: leave them out, or store 0 there and "
    "their fraction in the record.",
)
@click.option(
    "--method-name", metavar="NAME", help="What made the flow, such as raft; the store keeps the name."
)
@click.option(
    "--list",
    "list_file",
    type=click.File("rb"),
    help="Only the clips of this list, with its labels: `path nframes label` or `path offset nframes label` "
    "lines, or CSV.",
)
@click.option(
    "--list-columns",
    callback=_columns,
    metavar="NAME,...",
    help="What the columns of a list without header are: path, offset, frames, label.",
)
@click.option("--classes", type=click.File("rb"), help="Class names for integer labels, one a line.")
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Worker processes. [default: one a core]")
@shard_size_option
@click.option("--update", is_flag=True, help="Redo folders that have changed since.")
@dask_option
@log_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per clip on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; warnings, failures and the summary stay.")
@click.pass_context
def command(ctx: click.Context, /, folder: Path, store: Path, **options: Any) -> None:
    """Bring the folders and zips of frames and flow below DIR into the HDF5 file STORE, JPEGs byte for byte.

    Flow is images of u and v (tsn to rgb-flow), a file of numbers for each field (flo, kitti), or an array
    for each clip (npy): CLIP/flow.npy or .npz, with CLIP/frames.npy unless --frames none, or CLIP.npy.

    The folder above a clip is its label, unless a list has another. A folder with missing or
    broken files is named with its reason and costs only itself. Facts that the files do not hold
    (the solver and its parameters, the source's size, times) are marked as imported.

    Exit status: 0 all stored, 1 some failed (the ledger is STORE.failures.jsonl), 2 nothing could
    start, 130 interrupted.
    """
    from flowkit.rawframes.import_config import ImportConfig
    from flowkit.rawframes.importer import prepare, run

    from .reporter import Reporter

    reporter = Reporter(as_json=options.pop("as_json"), quiet=options.pop("quiet"))
    given = {name: options.pop(name) for name in ("list_file", "list_columns", "classes")}
    dask = options.pop("dask")
    if options["jobs"] is None:
        del options["jobs"]
    config = ImportConfig(**options)
    known = functools.partial(config.is_clip, folder)
    entries, labels = _list(known, reporter.write_line, **given)
    setup = prepare(folder, store, config, entries=entries)
    reporter.plan_import(setup)
    where, kept = dask if setup.plan.todo else None, f"finished clips are kept in {store}.parts"
    folder_of_store, paths = store.absolute().parent, some_paths(setup.plan.todo)
    workers = cluster(where, jobs=config.jobs, folder=folder_of_store, inputs=paths)
    with workers as executor, reporter.running("clips", kept=kept):
        report = run(setup, labels=labels, on_progress=reporter.progress, executor=executor)
    ctx.exit(reporter.store_summary(store, report))


def _list(
    is_clip: Callable[[str], bool],
    on_note: Callable[[str], None],
    *,
    list_file: IO[bytes] | None,
    list_columns: tuple[str, ...],
    classes: IO[bytes] | None,
) -> tuple[list[ListEntry] | None, list[str] | None]:
    """Return the entries of the list and the class names, None where they were not given."""
    names = read_classes(classes)
    labels = [names[key] for key in sorted(names)] if names else None
    if list_file is None:
        return None, labels
    entries = read_list(
        list_file, classes=names, is_video=is_clip, on_note=on_note, of_folders=True, columns=list_columns
    )
    return entries, labels
