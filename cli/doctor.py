"""`flowkit doctor`: versions, backends, problems."""

from __future__ import annotations

import dataclasses
import json

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per finding.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what is installed, which backends work, what would be used, and why.

    Exit status: 0 no problem, 1 a problem was found.
    """
    from flowkit.doctor import examine

    findings = examine()
    for finding in findings:
        mark = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[finding.level]
        line = json.dumps(dataclasses.asdict(finding))
        click.echo(line if as_json else f"{mark} {finding.topic:8} {finding.text}")
    ctx.exit(any(finding.level == "problem" for finding in findings))
