"""`flowkit doctor`: versions, backends, problems."""

from __future__ import annotations

import dataclasses
import json

import click

from .streams import echo


@click.command("doctor")
@click.option(
    "--gpu",
    "gpus",
    is_flag=True,
    help="Also test each GPU: its kernels as loaded, and one pair against the reference; about ten "
    "seconds each. Without cupy, driver or GPU this is a problem.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON line per finding.")
@click.pass_context
def command(ctx: click.Context, gpus: bool, as_json: bool) -> None:
    """Show what is installed, which backends work, what would be used, and why.

    Exit status: 0 no problem, 1 a problem was found.
    """
    from flowkit.doctor import examine, examine_gpus

    findings = [*examine(), *(examine_gpus() if gpus else ())]
    for finding in findings:
        mark = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[finding.level]
        line = json.dumps(dataclasses.asdict(finding))
        echo(line if as_json else f"{mark} {finding.topic:8} {finding.text}")
    ctx.exit(any(finding.level == "problem" for finding in findings))
