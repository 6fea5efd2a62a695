"""`flowkit verify`: checksums, counts and shards of a store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .streams import echo

if TYPE_CHECKING:
    from flowkit.store.tools.repair import RepairReport
    from flowkit.store.tools.verify import VerifyReport


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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(ctx: click.Context, /, store: Path, as_json: bool, **options: bool) -> None:
    """Check every flow field, frame, count, checksum and shard of STORE.

    Exit status: 0 sound, 1 not (with --repair: what was broken was dropped or made anew), 2 a file is not
    there or cannot be read now, so that nothing is known of its videos; --repair changes nothing then.
    """
    from flowkit.store.tools.repair import is_unfinished
    from flowkit.store.tools.repair import repair as drop_broken
    from flowkit.store.tools.verify import verify

    repair = options["repair"]
    for name in ("lost", "delete"):
        if options[name] and not repair:
            raise click.UsageError(f"--{name} goes with --repair")
    report = verify(store)
    if as_json:
        click.echo(json.dumps({"sound": report.sound, **dataclasses.asdict(report)}))
    else:
        echo("\n".join(_lines(store, report)))
    if repair and (not report.sound or options["delete"] or is_unfinished(store)):
        repaired = drop_broken(store, lost=options["lost"], delete=options["delete"])
        if repaired.rewritten:
            echo(_done(repaired), err=True)
    ctx.exit(2 if report.unreadable and not repair else 0 if report.sound else 1)


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
    yield f"{store}: {word}; {report.n_videos} videos, {report.n_frames} frames, {report.n_flow} flow fields"
