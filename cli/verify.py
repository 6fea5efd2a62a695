"""`flowkit verify`: checksums, counts and shards of a store."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cluster import cluster, dask_option
from .streams import echo

if TYPE_CHECKING:
    from flowkit.executor import Executor
    from flowkit.store.tools.repair import RepairReport
    from flowkit.store.tools.verify import VerifyReport


def _fraction(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return the fraction that a text such as 1% or 1 names (a click callback)."""
    if value is None:
        return None
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise click.BadParameter(f"{value!r} is not a percentage in (0, 100], such as 1%")
    return percent / 100


@click.command("verify")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--repair",
    is_flag=True,
    help="Rewrite the store without broken videos; their files move to STORE.broken/, and the next extract "
    "makes them again.",
)
@click.option("--lost", is_flag=True, help="With --repair: drop the videos of shards that are not there.")
@click.option("--delete", is_flag=True, help="With --repair: delete STORE.broken/ at the end.")
@click.option(
    "--deep",
    is_flag=True,
    help="Also decode every chunk and frame, and compare the index with the videos' groups: some 50 times as "
    "long.",
)
@click.option(
    "--sample",
    metavar="PERCENT",
    callback=_fraction,
    help="Only the chunks of so many videos, drawn by chance, such as 1%; what is outside the chunks is read "
    "in any case.",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    help="Threads that read, or processes that decode. [default: one a core]",
)
@dask_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(ctx: click.Context, /, store: Path, as_json: bool, **options: Any) -> None:
    """Check that every byte of STORE is as it was written: the checksums of chunks, tables and shards.

    What differs is decoded, to say what is wrong; so are stores of format 1.0 and files that another program
    has written anew, which have no checksum of the whole. --deep decodes all: it also finds what fitted no
    checksum or count when it was written, and takes the time of that. --repair decodes all, too.

    Exit status: 0 sound, 1 not (with --repair: what was broken was dropped or made anew), 2 a file is not
    there or cannot be read now, so that nothing is known of its videos; --repair changes nothing then.
    """
    from flowkit.store.tools.repair import is_unfinished
    from flowkit.store.tools.repair import repair as drop_broken

    repair = options["repair"]
    _check(options)
    dask, jobs = options["dask"], options["jobs"] or len(os.sched_getaffinity(0))
    with cluster(dask, jobs=jobs, folder=store.absolute().parent, inputs=[store]) as executor:
        report = _verified(store, options, executor)
    if as_json:
        click.echo(json.dumps({"sound": report.sound, **dataclasses.asdict(report)}))
    else:
        echo("\n".join(_lines(store, report)))
    if repair and (not report.sound or options["delete"] or is_unfinished(store)):
        repaired = drop_broken(store, lost=options["lost"], delete=options["delete"], jobs=options["jobs"])
        if repaired.rewritten:
            echo(_done(repaired), err=True)
    ctx.exit(2 if report.unreadable and not repair else 0 if report.sound else 1)


def _verified(store: Path, options: Mapping[str, Any], executor: Executor | None) -> VerifyReport:
    """Check the store, with a bar."""
    from flowkit.store.tools.verify import verify

    chosen = {name: options[name] for name in ("sample", "jobs")}
    deep = options["deep"] or options["repair"]
    with _bar() as on_progress:
        return verify(store, deep=deep, on_progress=on_progress, executor=executor, **chosen)


def _check(options: Mapping[str, Any]) -> None:
    """Raise UsageError for options that do not go together."""
    for name in ("lost", "delete"):
        if options[name] and not options["repair"]:
            raise click.UsageError(f"--{name} goes with --repair")
    if options["dask"] and not (options["deep"] or options["repair"]):
        raise click.UsageError("--dask decodes on a cluster: it goes with --deep; checksums are read here")
    if options["repair"] and options["sample"] is not None:
        raise click.UsageError("--repair reads all; leave --sample out")


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """Yield what shows the fraction that is done, on a terminal."""
    from tqdm import tqdm

    shape = "{percentage:3.0f} %|{bar}| {elapsed} of {remaining} more"
    with tqdm(total=1.0, bar_format=shape, leave=False, disable=not sys.stderr.isatty()) as bar:

        def show(fraction: float) -> None:
            bar.update(max(0.0, fraction - bar.n))

        yield show


def _done(repaired: RepairReport) -> str:
    if not repaired.dropped:
        return f"repaired: all {repaired.kept} videos are kept"
    names = ", ".join(repaired.dropped)
    return f"dropped {len(repaired.dropped)} videos: {names}; extract again"


def _lines(store: Path, report: VerifyReport) -> Iterator[str]:
    for problem in (*report.unreadable, *report.store):
        yield f"{store}: {problem}"
    for name, problems in report.videos.items():
        for problem in problems:
            yield f"{name}: {problem}"
    broken = "NOT SOUND" if report.videos or report.store else "NOT READ AS A WHOLE"
    word = "sound" if report.sound else broken
    counts = f"{report.n_videos} videos, {report.n_frames} frames, {report.n_flow} flow fields"
    yield f"{store}: {word}; {counts}; {_extent(report)}"


def _extent(report: VerifyReport) -> str:
    """Return what was read of the chunks."""
    if not report.n_checked:
        return "no chunk was read"
    some = (
        f"of {report.n_checked} of the videos, drawn by chance" if report.n_checked < report.n_videos else ""
    )
    if report.n_checked == report.n_decoded:
        return f"chunks {some} were decoded" if some else "all was decoded"
    return f"checksums {some}" if some else "checksums of every byte"
