"""Options that train, eval and predict share: where they compute, and how clips are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def compute_options(function: Function) -> Function:
    """Add --device, --workers and --threads."""
    for option in (
        click.option("--threads", type=click.IntRange(min=1), help="Threads of torch. [default: torch's]"),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Processes that read ahead.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    ):
        function = option(function)
    return function
