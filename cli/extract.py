"""`flowkit extract`: videos → store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, FLOW_CODECS, bounded_names

from .cluster import cluster, dask_option, some_paths
from .options import (
    Options,
    check_tvl1_options,
    log_file_option,
    parse_bytes,
    parse_fields,
    parse_gpus,
    parse_shard,
    read_classes,
    read_list,
    resize_options,
    shard_size_option,
    take_resize_rule,
    take_tvl1_params,
    tvl1_options,
)

if TYPE_CHECKING:
    from flowkit.extraction.sources import VideoSource


@click.command("extract")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--list",
    "lists",
    multiple=True,
    type=click.Path(),
    help="File that names videos: `path [nframes] label` lines, or CSV with a header "
    "(path, label, start, end in seconds, id); - is standard input.",
)
@click.option(
    "--null",
    "-0",
    "null",
    is_flag=True,
    help="Lists are names alone, each ended by a NUL byte, as `find -print0` writes them.",
)
@click.option(
    "--root", type=click.Path(path_type=Path), default=".", help="Folder that paths in lists count from."
)
@click.option("--classes", type=click.File("rb"), help="Class names for integer labels, one a line.")
@click.option(
    "--images",
    type=click.Choice(["auto", "sequence", "ignore"]),
    default="auto",
    show_default=True,
    help="Folders of numbered images: auto takes one for a video if no video is in it or below it, "
    "sequence takes each, ignore none.",
)
@click.option(
    "--shard",
    callback=parse_shard,
    metavar="I/N",
    help="Take every N-th video from the I-th, for one of N machines; `flowkit merge` joins their stores.",
)
@click.option("--keep-suffix", is_flag=True, help="Keep the files' suffixes in the ids.")
@resize_options
@click.option("--step", type=int, default=1, show_default=True, help="Pair frame k with frame k + STEP.")
@click.option(
    "--fps", type=float, help="Resample by time; frames per second of folders of images (25 without it)."
)
@click.option(
    "--deinterlace/--no-deinterlace",
    default=None,
    help="Make interlaced frames those of one moment, by FFmpeg's bwdif; others stay as they are. [default: "
    "the store's; of a new one as they are coded]",
)
@click.option("--backward", is_flag=True, help="Also store the flow from k + STEP to k.")
@click.option(
    "--flow-codec",
    type=click.Choice(list(FLOW_CODECS)),
    help="; ".join(f"{name}: {entry.help}" for name, entry in FLOW_CODECS.items())
    + f".  [default: {DEFAULT_FLOW_CODEC}; an existing store's own]",
)
@click.option(
    "--bound",
    "bound_px",
    type=float,
    help=f"Range of codec {bounded_names()}, px.  [default: {DEFAULT_BOUND_PX:g}; an existing store's own]",
)
@click.option(
    "--frames",
    "frame_codec",
    type=click.Choice(["jpeg", "none"]),
    default="jpeg",
    show_default=True,
    help="Codec of the RGB frames; none leaves them out.",
)
@click.option("--jpeg-quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of frames.")
@click.option(
    "--decoder",
    type=click.Choice(["auto", "av", "opencv"]),
    default="auto",
    show_default=True,
    help="Decoder of the videos; auto is PyAV where it is installed.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "cuda", "opencv", "reference"]),
    default="auto",
    show_default=True,
    help="Engine that computes the flow; auto takes the fastest available and prints why.",
)
@click.option(
    "--gpus",
    callback=parse_gpus,
    default="all",
    show_default=True,
    help="GPUs of the cuda backend: all, or numbers such as 0,1; one process each, one queue of videos.",
)
@click.option(
    "--gpu-memory",
    "gpu_memory_bytes",
    callback=parse_bytes,
    default="0",
    help="Most device memory that each takes, such as 8G. [default: most of what is free]",
)
@click.option(
    "--method",
    default="tvl1",
    show_default=True,
    metavar="METHOD[/PRESET]",
    help="What computes the flow: tvl1, by --backend, --preset and the options of its parameters; "
    "dis/medium (or /fast, /ultrafast) and farneback/samples (or /defaults), OpenCV's; or "
    "package.module:function, a function of your own.",
)
@click.option(
    "--field",
    "more_fields",
    multiple=True,
    callback=parse_fields,
    metavar="NAME=METHOD[/PRESET]",
    help="Also store the flow of another method, as the field NAME; may be given several times.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Pairs of one call of a function of your own. [default: what it says itself, else 8]",
)
@tvl1_options
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Worker processes. [default: one a core]")
@shard_size_option
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for videos of archives and addresses while they are worked on. [default: the system's for "
    "temporaries]",
)
@click.option(
    "--scratch-size",
    "scratch_bytes",
    callback=parse_bytes,
    default="8GiB",
    show_default=True,
    help="Most that they take there at once; a larger video fails.",
)
@click.option("--update", is_flag=True, help="Redo videos whose file has changed since.")
@dask_option
@click.option("--fail-fast", is_flag=True, help="Stop at the first video that fails.")
@click.option(
    "--video-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="A video whose worker gets no further for so long fails as timed_out, and the worker is replaced; "
    "0 is never. [default: 600, and 1 more for each MB of its file]",
)
@log_file_option
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per video on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; warnings, failures and the summary stay.")
@click.pass_context
def command(ctx: click.Context, /, inputs: tuple[str, ...], store: Path, **options: Any) -> None:
    """Extract RGB frames and optical flow of videos into the HDF5 file STORE: TV-L1, or another --method.

    INPUT is a video, a folder (searched recursively), a folder of numbered images, a tar archive of
    videos (.tar, .tar.gz), an address such as s3://bucket/videos/ or https://host/clip.mp4, or - for
    a list of videos on standard input. The same command again does only what is missing, so it
    also resumes an interrupted run; without a preset a store keeps the TV-L1 parameters it was made with,
    and without --flow-codec its codec.

    Exit status: 0 all stored, 1 some failed (the rest is stored; the ledger is
    STORE.failures.jsonl), 2 nothing could start, 130 interrupted.
    """
    from flowkit.extraction.config import ExtractConfig
    from flowkit.extraction.run import prepare, run

    from .reporter import Reporter

    dry_run, dask = options.pop("dry_run"), options.pop("dask")
    reporter = Reporter(as_json=options.pop("as_json"), quiet=options.pop("quiet"))
    sources, labels = _sources(inputs, options, reporter.write_line)
    if options["jobs"] is None:
        del options["jobs"]
    check_tvl1_options(ctx)
    config = ExtractConfig(params=take_tvl1_params(options), resize=take_resize_rule(options), **options)
    setup = prepare(sources, store, config=config, elsewhere=dask is not None)
    reporter.plan_extraction(setup, dry_run=dry_run)
    if not dry_run:
        kept = f"finished videos are kept in {store}.parts"
        where = dask if setup.plan.todo else None
        folder, paths = store.absolute().parent, some_paths(setup.plan.todo)
        engine = (setup.backend.name, setup.tvl1) if setup.backend is not None else None
        workers = cluster(where, jobs=config.jobs, folder=folder, inputs=paths, engine=engine)
        with workers as executor, reporter.running("videos", kept=kept):
            report = run(setup, labels=labels, on_progress=reporter.progress, executor=executor)
        ctx.exit(reporter.store_summary(store, report))


def _sources(
    inputs: tuple[str, ...], options: Options, on_note: Callable[[str], None]
) -> tuple[list[VideoSource], list[str] | None]:
    """Take the input options; return the videos that they name, and the class names if given."""
    from flowkit.errors import InputError
    from flowkit.extraction.sources import check_ids, find_sources

    lists = [*options.pop("lists"), *(name for name in inputs if name == "-")]
    inputs = tuple(name for name in inputs if name != "-")
    if not inputs and not lists:
        raise InputError("no INPUT: name a video, a folder or --list FILE before the store")
    keep_suffix, images = options.pop("keep_suffix"), options.pop("images")
    classes = read_classes(options.pop("classes"))
    sources = find_sources(inputs, keep_suffix=keep_suffix, images=images, on_note=on_note)
    root, null = options.pop("root"), options.pop("null")
    for name in lists:
        sources += _listed(
            name, root=root, null=null, classes=classes, keep_suffix=keep_suffix, on_note=on_note
        )
    number, count = options.pop("shard")
    return check_ids(sources)[number - 1 :: count], [
        classes[key] for key in sorted(classes)
    ] if classes else None


def _listed(
    name: str,
    *,
    root: Path,
    null: bool,
    classes: dict[int, str] | None,
    keep_suffix: bool,
    on_note: Callable[[str], None],
) -> list[VideoSource]:
    """Return the videos of one list."""
    from flowkit.extraction.lists import ListEntry
    from flowkit.extraction.sources import ListedPaths, sources_of_list

    with click.open_file(name, "rb") as file:
        if null:
            entries = [ListEntry(path=os.fsdecode(path)) for path in file.read().split(b"\0") if path]
        else:
            known = ListedPaths(root)
            entries = read_list(file, classes=classes, is_video=known.__contains__, on_note=on_note)
    return sources_of_list(entries, root=root, keep_suffix=keep_suffix)
