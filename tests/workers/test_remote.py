from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowkit.workers import remote

# Makes and frees 20 images of 4 MB with dask's trim threshold, and prints the page faults that took.
FAULTS = """
import ctypes, resource, sys
import numpy as np
from flowkit.workers import remote

libc = ctypes.CDLL(None)
libc.mallopt(-1, 1 << 16)
if sys.argv[1] == "keep":
    remote._keep_freed_memory()
np.ones(1 << 22, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 22, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True, timeout=60
    )
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's thresholds")
def test_a_worker_of_dask_keeps_freed_memory() -> None:
    given_back = page_faults("leave")
    if given_back < 1000:
        pytest.skip("this C library keeps it by itself")
    assert page_faults("keep") < given_back / 10


def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert remote.missing([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path)]) == [str(tmp_path / "b")]
