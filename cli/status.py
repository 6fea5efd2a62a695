"""`flowkit status`: how far an extraction is, whether it runs or has died."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .streams import echo

if TYPE_CHECKING:
    from flowkit.extraction.status import StoreStatus
    from flowkit.extraction.watch import RunState


@click.command("status")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(ctx: click.Context, /, store: Path, as_json: bool) -> None:
    """Tell what an extraction or import into STORE has done, what is left, and how fast it goes.

    Asked on the machine of the run, or on another that sees the same folder. It waits for nothing and
    changes nothing; `flowkit info` shows what is in a store.

    Exit status: 0 complete or running, 1 a run ended before it was done, 2 there is no store.
    """
    from flowkit.extraction.status import store_status

    status = store_status(store)
    if as_json:
        names = ("left", "seconds", "silent_seconds", "frames_per_second", "seconds_left")
        more = {name: getattr(status, name) for name in names}
        click.echo(json.dumps({**dataclasses.asdict(status), **more}, ensure_ascii=False))
    else:
        echo("\n".join(_lines(status)))
    ctx.exit(1 if status.state == "stopped" else 0)


def _lines(status: StoreStatus) -> Iterator[str]:
    yield f"{status.store}: {_headline(status)}"
    parts = f", {status.parts} finished beside it that wait to be packed" if status.parts else ""
    failed = f", {status.failures} failures in its ledger" if status.failures else ""
    yield f"  in the store   {status.stored} videos{parts}{failed}"
    if status.run is not None:
        yield from _run_lines(status, status.run)
    if status.state == "stopped":
        yield "  the same command again goes on from there"


def _headline(status: StoreStatus) -> str:
    run = status.run
    if status.state == "complete":
        return "complete; nothing is at work"
    what = run.command if run is not None else "work"
    if status.state == "running":
        return f"{what} is running: {status.holder}"
    if run is None:
        return "a run ended before it was done"
    if run.stage == "failed":
        return f"{what} failed: {run.error}"
    how = "was interrupted" if run.stage == "interrupted" else "died"
    return f"{what} {how}: process {run.pid} on {run.host}, last sign {run.updated}"


def _run_lines(status: StoreStatus, run: RunState) -> Iterator[str]:
    share = f"{100 * run.fraction:.0f} % of the work"
    before = f", {run.already_stored} were stored before" if run.already_stored else ""
    yield f"  this run       {run.done} of {run.total} videos, {run.failed} failed, {share}{before}"
    pace = f"{status.frames_per_second:.1f} frames/s" if status.frames_per_second else "no frame yet"
    left = f", about {_duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    yield f"  pace           {pace}, {_duration(status.seconds or 0)} so far{left}"
    if status.state == "running":
        yield f"  last sign      {_duration(status.silent_seconds or 0)} ago, {run.stage}"
    word = "at work" if status.state == "running" else "was at work"
    for one in run.at_work:
        worker = one.worker or "a process that starts"
        yield f"  {word:14} {one.video_id}: {one.frames} frames, {worker}, since {one.since}"


def _duration(seconds: float) -> str:
    """Return a duration as "5 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
