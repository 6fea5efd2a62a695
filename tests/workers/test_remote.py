from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit.workers import remote
from flowkit.workers.board import Worker

# Makes and frees 20 images of 3 MB with dask's trim threshold, and prints the page faults that took: of 4 MB
# and more NumPy asks for huge pages, of which there are too few to count.
FAULTS = """
import ctypes, resource, sys
import numpy as np
from flowkit.workers import remote

libc = ctypes.CDLL(None)
libc.mallopt(-1, 1 << 16)
if sys.argv[1] == "keep":
    remote._keep_freed_memory()
np.ones(3 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(3 << 20, np.uint8)
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


def test_a_c_library_without_thresholds_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    remote._keep_freed_memory.__wrapped__()


def test_a_task_runs_in_the_folder_of_the_run_with_the_workers_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(remote, "_keep_freed_memory", lambda: kept.append(True))
    monkeypatch.chdir(Path(__file__).parent)  # and back to where it was

    def work(task: str, worker: Worker) -> tuple[object, ...]:
        return task, worker.slot, worker.jobs, worker.owns_gpu, os.getcwd()

    for folder in (tmp_path, tmp_path / "gone"):
        found = remote.in_worker(work, "a", number=3, threads=5, topic="x", folder=str(folder))
        assert found == ("a", 3, 5, True, str(tmp_path))
    assert kept == [True, True]


def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert remote.missing([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path)]) == [str(tmp_path / "b")]
