"""Join a dask cluster by its address or file, or make one on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

from flowkit.errors import ClusterError, InvalidParameterError
from flowkit.workers.slot import deaf_to_ctrl_c

# Those of distributed, whose types are given in part.
Client: TypeAlias = Any
LocalCluster: TypeAlias = Any

LOCAL = "local"

_LOCAL_CONFIG = {
    # Samples of all threads' stacks, a hundred a second, and of Python's lock: for dask's own dashboard.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
    # Of each process's loop, to measure its own delays: fifty times a second, 7 % of a core in all.
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.work-stealing": False,
    "distributed.nanny.pre-spawn-environ.OPENBLAS_NUM_THREADS": 1,
}


def connected(where: str, *, jobs: int, timeout: float) -> tuple[Client, LocalCluster | None]:
    """Return a client of a scheduler, and the local cluster of `jobs` workers where one was made.

    Raises
    ------
    ClusterError
        No scheduler answers within `timeout` seconds.
    InvalidParameterError
        The package `distributed` is not installed.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InvalidParameterError(
            "a dask cluster needs the package distributed: `pip install '.[dask]'` in flowkit's folder "
            f"({error})"
        ) from error
    if where == LOCAL:
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        # Ctrl-C is held back from the workers, which inherit that: this process ends them.
        with dask.config.set(_LOCAL_CONFIG), deaf_to_ctrl_c():
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=threads,
                memory_limit=0,
                # No dashboard; any free port in place of 8787, which another cluster here may have.
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": ":0"},
            )
            return Client(cluster), cluster
    try:
        if Path(where).is_file():
            return Client(scheduler_file=where, timeout=timeout), None
        return Client(where, timeout=timeout), None
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"no dask scheduler answers at {where}: {error or type(error).__name__}; "
            "expected an address such as tcp://host:8786, a scheduler file, or local"
        ) from error
