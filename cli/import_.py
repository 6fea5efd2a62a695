"""`flowkit import`: folders of raw frames → store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from .options import parse_bytes, read_classes, read_list

if TYPE_CHECKING:
    from flowkit.extraction.lists import ListEntry


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    type=click.Choice(["tsn", "denseflow", "mmaction2"]),
    required=True,
    help="Names of the files.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="KIND=NAME",
    help="Another file name, such as x=u_%06d.jpg; kinds: img, x, y.",
)
@click.option(
    "--first-index", type=click.IntRange(min=0), help="Number of the first frame. [default: the layout's]"
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Frames from the first to the second of a pair.",
)
@click.option(
    "--bound",
    "bound_px",
    type=float,
    default=20.0,
    show_default=True,
    help="Range the flow was quantised to, px.",
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
    "--list",
    "list_file",
    type=click.File("rb"),
    help="Only the clips of this list, with its labels: `path nframes label` lines, or CSV.",
)
@click.option("--classes", type=click.File("rb"), help="Class names for integer labels, one a line.")
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Worker processes. [default: one a core]")
@click.option(
    "--shard-size",
    "shard_bytes",
    callback=parse_bytes,
    default="4GiB",
    show_default=True,
    help="Beyond it the store is a small master file and shards in STORE.shards/.",
)
@click.option("--update", is_flag=True, help="Redo folders that have changed since.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per clip on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; warnings, failures and the summary stay.")
@click.pass_context
def command(ctx: click.Context, /, folder: Path, store: Path, **options: Any) -> None:
    """Bring the folders and zips of frames below DIR into the HDF5 file STORE, JPEGs byte for byte.

    The folder above a clip is its label, unless a list has another. A folder with missing or
    broken files is named with its reason and costs only itself. Facts that the files do not hold
    (the solver and its parameters, the source's size, times) are marked as imported.

    Exit status: 0 all stored, 1 some failed (the ledger is STORE.failures.jsonl), 2 nothing could
    start, 130 interrupted.
    """
    from flowkit.rawframes.importer import ImportConfig, prepare, run

    from .reporter import Reporter

    reporter = Reporter(as_json=options.pop("as_json"), quiet=options.pop("quiet"))
    entries, labels = _list(folder, options.pop("list_file"), options.pop("classes"), reporter.write_line)
    if options["jobs"] is None:
        del options["jobs"]
    setup = prepare(folder, store, ImportConfig(**options), entries=entries)
    reporter.plan_import(setup)
    with reporter.running("clips", kept=f"finished clips are kept in {store}.parts"):
        report = run(setup, labels=labels, on_progress=reporter.progress)
    ctx.exit(reporter.store_summary(store, report))


def _list(
    folder: Path, list_file: IO[bytes] | None, classes_file: IO[bytes] | None, on_note: Callable[[str], None]
) -> tuple[list[ListEntry] | None, list[str] | None]:
    """Return the entries of the list and the class names, None where they were not given."""
    classes = read_classes(classes_file)
    labels = [classes[key] for key in sorted(classes)] if classes else None
    if list_file is None:
        return None, labels
    known = functools.partial(_is_below, folder)
    return read_list(list_file, classes=classes, is_video=known, on_note=on_note), labels


def _is_below(folder: Path, path: str) -> bool:
    try:
        return (folder / path).exists()
    except (OSError, ValueError):
        return False
