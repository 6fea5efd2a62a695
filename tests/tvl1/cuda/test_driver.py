"""The call that cupy does not wrap, against a library with cuda.h's own struct."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from flowkit.errors import BackendUnavailableError
from flowkit.tvl1.cuda import driver
from flowkit.tvl1.cuda.driver import CHECKED_VARIABLE, check_driver, max_active_clusters
from tests.make.deadline import ends_in_time
from tests.tvl1.emulation.emulator import COMPILER

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

# The struct as cuda.h lays it out; the "clusters" are a number that holds every field once.
LIBRARY = """
struct Config {
  unsigned grid[3], block[3], shared;
  void *stream, *attributes;
  unsigned count;
};
extern "C" int cuOccupancyMaxActiveClusters(int* clusters, void* function, const Config* c) {
  if (c->stream || c->attributes || c->count) return 1;
  for (int k = 1; k < 3; ++k) if (c->grid[k] != 1 || c->block[k] != 1) return 1;
  *clusters = c->grid[0] * 1000 + c->block[0] * 10 + (c->shared == 128000) + (function == (void*)0xabc);
  return 0;
}
"""


def compiled(folder: Path, text: str) -> ctypes.CDLL:
    source, library = folder / "driver.cpp", folder / "driver.so"
    source.write_text(text)
    subprocess.run([str(COMPILER), "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@needs_compiler
def test_every_field_of_the_launch_is_where_the_driver_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compiled(tmp_path, LIBRARY)
    monkeypatch.setattr(driver, "_library", lambda: library)
    assert max_active_clusters(0xABC, blocks=16, threads=256, shared_bytes=128_000) == (0, 18_562)


@needs_compiler
def test_a_driver_that_knows_no_clusters_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiled(tmp_path, "int something_else;")
    monkeypatch.setattr(driver, "_library", lambda: library)
    with pytest.raises(BackendUnavailableError, match=r"does not know clusters: .*cuOccupancyMaxActive"):
        max_active_clusters(1, blocks=8, threads=256, shared_bytes=0)


def test_a_machine_without_a_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> ctypes.CDLL:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(driver, "_library", absent)
    with pytest.raises(BackendUnavailableError, match=r"does not know clusters: libcuda\.so\.1"):
        max_active_clusters(1, blocks=8, threads=256, shared_bytes=0)


def test_a_driver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECKED_VARIABLE, raising=False)
    monkeypatch.setattr(driver, "_TRY", "import time; time.sleep(60)")
    monkeypatch.setattr(driver, "START_SECONDS", 0.3)
    with pytest.raises(BackendUnavailableError, match=r"has not answered for 0\.3 s; check that nvidia-smi"):
        ends_in_time(check_driver.__wrapped__)
    # Where a parent watches, nothing is tried.
    monkeypatch.setenv(CHECKED_VARIABLE, "1")
    check_driver.__wrapped__()


def test_a_driver_that_is_missing_is_left_to_the_call_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECKED_VARIABLE, raising=False)
    monkeypatch.setattr(driver, "_TRY", "import ctypes; ctypes.CDLL('libno.so.1')")
    ends_in_time(check_driver.__wrapped__)
