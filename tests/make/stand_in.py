"""Other processes on the stand-in for cupy: the environment that they need."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.record import ROOT

CUPY_FOLDER = ROOT / "tests" / "tvl1" / "emulation" / "cupy_folder"


def stand_in_environment(cache: Path, *, faults: str = "[[]]", first: Path | None = None) -> dict[str, str]:
    """Return variables with which a process finds emulated GPUs that clusters run on.

    Parameters
    ----------
    cache : Path
        flowkit's cache, shared by all processes; made here.
    faults : str
        Of each GPU, as JSON.
    first : Path, optional
        Folder of modules before all others.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = [*([first] if first else []), CUPY_FOLDER, os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, map(str, path))),
        "FLOWKIT_FAKE_GPUS": faults,
        "FLOWKIT_FAKE_CAPABILITY": "90",
        "FLOWKIT_CACHE_DIR": str(cache),
    }
