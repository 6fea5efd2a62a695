"""`flowkit verify`: checksums, counts and shards of a store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flowkit.store.tools.verify import VerifyReport


@click.command("verify")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--repair",
    is_flag=True,
    help="Rewrite the store without broken videos; the next extract makes them again.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(ctx: click.Context, /, store: Path, repair: bool, as_json: bool) -> None:
    """Check every flow field, frame, count, checksum and shard of STORE.

    Exit status: 0 sound, 1 not (with --repair: broken videos were dropped).
    """
    from flowkit.store.tools.repair import is_unfinished
    from flowkit.store.tools.repair import repair as drop_broken
    from flowkit.store.tools.verify import verify

    report = verify(store)
    if as_json:
        click.echo(json.dumps({"sound": report.sound, **dataclasses.asdict(report)}))
    else:
        click.echo("\n".join(_lines(store, report)))
    if repair and (not report.sound or is_unfinished(store)):
        repaired = drop_broken(store)
        if repaired.rewritten:
            names = ", ".join(repaired.dropped)
            click.echo(f"dropped {len(repaired.dropped)} videos: {names}; extract again", err=True)
    ctx.exit(0 if report.sound else 1)


def _lines(store: Path, report: VerifyReport) -> Iterator[str]:
    for problem in report.store:
        yield f"{store}: {problem}"
    for name, problems in report.videos.items():
        for problem in problems:
            yield f"{name}: {problem}"
    word = "sound" if report.sound else "NOT SOUND"
    yield f"{store}: {word}; {report.n_videos} videos, {report.n_frames} frames, {report.n_flow} flow fields"
