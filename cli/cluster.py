"""`--dask`: the workers of a cluster in place of this machine's processes."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flowkit.executor import Executor
    from flowkit.extraction.sources import VideoSource
    from flowkit.tvl1.backend import BackendName
    from flowkit.tvl1.params import TVL1Params

dask_option = click.option(
    "--dask",
    metavar="ADDRESS|FILE|local",
    help="Work on the workers of a dask cluster: its scheduler's address, the file that the scheduler "
    "writes, or a cluster of --jobs workers on this machine. Workers need the same file system and flowkit.",
)


@contextlib.contextmanager
def cluster(
    where: str | None,
    *,
    jobs: int,
    folder: Path,
    inputs: Sequence[Path] = (),
    engine: tuple[BackendName, Sequence[TVL1Params]] | None = None,
) -> Iterator[Executor | None]:
    """Yield the executor of --dask; None without one.

    Parameters
    ----------
    where
        The option's value.
    jobs
        Workers of a local cluster.
    folder
        Where the command writes; workers must see it.
    inputs
        What the command reads; workers must see it.
    engine
        The engine of TV-L1 and its parameters; workers must have it.
    """
    if where is None:
        yield None
        return
    from flowkit.dask_executor import DaskExecutor
    from flowkit.extraction.engines import why_not_here

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # distributed logs a lost scheduler with its traceback; the error says it
    try:
        gpus = engine is not None and engine[0] == "cuda"
        check = functools.partial(why_not_here, *engine) if engine is not None else None
        with DaskExecutor(where, jobs=jobs, folder=folder, inputs=inputs, gpus=gpus, check=check) as executor:
            yield executor
    finally:
        logging.disable(before)


def some_paths(sources: Sequence[VideoSource]) -> list[Path]:
    """Return the paths of the first, the middle and the last source, as far as they are here.

    One that is missing here fails by itself, and not every worker.
    """
    if not sources:
        return []
    some = (sources[0], sources[len(sources) // 2], sources[-1])
    return sorted({one.path for one in some if one.held is None and one.path.exists()})
