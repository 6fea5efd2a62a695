"""Circumstances of every raw result: hardware, versions, commit, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
JsonObject: TypeAlias = dict[str, Any]

PACKAGES = (
    *("numpy", "opencv-contrib-python-headless", "h5py", "av", "deflate", "simplejpeg", "torch"),
    "scikit-image",
)


def circumstances() -> JsonObject:
    """Return the machine, the versions, the commit and the date of a result.

    $FLOWKIT_COMMIT names the commit of a copy, whose git, if it has one, may know an earlier one; what
    differs from that commit is unknown there.
    """
    copied = os.environ.get("FLOWKIT_COMMIT", "")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": copied or _git("rev-parse", "HEAD"),
        "uncommitted": ["unknown"] if copied else _git("status", "--porcelain").splitlines(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def write_result(name: str, result: Mapping[str, object]) -> Path:
    """Write a result with its circumstances to benchmarks/results/<name>-<date>.json."""
    made = circumstances()
    path = RESULTS / f"{name}-{made['date'][:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"circumstances": made, **result}, indent=1) + "\n")
    return path


def python_path() -> str:
    """Return PYTHONPATH for a process that needs this checkout, with what it has already after it."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


def _git(*words: str) -> str:
    """Return what git prints; nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
