"""A `sitecustomize` for processes of any checkout: the CPU engine timed, or replaced by flow made before.

`bench_extract_rival` links it into a folder on PYTHONPATH, so that each process of a checkout's own command
loads it at its start; it imports nothing of flowkit by itself. Each call of the CPU engine adds a line to
the file that $FLOWKIT_SOLVER_LOG names: pairs, CPU seconds, threads, and the file of the engine.
$FLOWKIT_CANNED_FLOW names an .npz of float32 (n, 2, H, W), one "HxW" a size: the engine then hands out
these, going round.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

LOG, CANNED = "FLOWKIT_SOLVER_LOG", "FLOWKIT_CANNED_FLOW"
ENGINE = "flowkit.tvl1.cpu"

Batch = Callable[..., Any]


def canned(path: str) -> Batch:
    """Return a `flow_batch` that hands out the fields of a file."""
    import numpy as np  # not at the start of a process that never solves

    with np.load(path) as file:
        fields = {name: file[name] for name in file.files}
    given = 0

    def flow_batch(self: object, frames: Any, pairs: Any, *, threads: int = 1) -> Any:
        nonlocal given
        chosen = np.arange(given, given + len(pairs))
        given += len(pairs)
        return fields["x".join(map(str, frames.shape[1:]))].take(chosen, axis=0, mode="wrap")

    return flow_batch


def logged(solve: Batch, engine_file: str | None) -> Batch:
    """Return a `flow_batch` that logs each call."""

    def flow_batch(self: object, frames: Any, pairs: Any, *, threads: int = 1) -> Any:
        began = time.thread_time()
        flow = solve(self, frames, pairs, threads=threads)
        seconds = time.thread_time() - began
        with open(os.environ[LOG], "a") as log:
            log.write(f"{len(pairs)} {seconds} {threads} {engine_file}\n")
        return flow

    return flow_batch


class Finder:
    """Finds the engine's module as everybody does, and changes its solver once it is loaded."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec with another loader; None for all other modules."""
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == ENGINE else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            solver, file = module.CpuSolver, os.environ.get(CANNED)
            solver.flow_batch = logged(canned(file) if file else solver.flow_batch, module.__file__)

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


if os.environ.get(LOG):
    sys.meta_path.insert(0, Finder)
