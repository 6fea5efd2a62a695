"""Some of the planted faults, each caught: a test of the tests (all: benchmarks/cuda_mutations.py)."""

from __future__ import annotations

import pytest

from tests.tvl1.emulation.emulator import COMPILER, CompileError
from tests.tvl1.emulation.faults import CHECKS, SCHEDULES, fault_list, what_catches

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

# One of each kind, none that reads or writes where nothing is.
QUICK = (
    "no barrier after the rows of u",
    "halo one pixel short on the left",
    "q not turned over",
    "halo counted in the change",
    "first block taken for the last",
    "median not turned over",
    "q not waited for",
    "fewer bytes awaited than sent",
    "warp arrives before its lanes have written",
    "halves rounded up",
    "quantile one component too low",
    "level that ended goes on",
    "bounds of the first pair",
    "edge of the outer taps not repeated",
    "last warp of a level not filtered",
    "q not written at the level's end",
    "rows of q above start from zero",
    "ended level goes on with the next launch",
    "still pixels go on",
    "blocks of the warp at hand for those of the one before",
)


@pytest.mark.parametrize("check", CHECKS)
def test_emulated_kernels_as_shipped_pass_every_check(check: str) -> None:
    assert not any(what_catches(None, check, schedule) for schedule in SCHEDULES)


@pytest.mark.parametrize("name", QUICK)
def test_emulated_faults_are_caught(name: str) -> None:
    fault = next(fault for fault in fault_list() if fault.name == name)
    assert any(what_catches(fault, fault.check, schedule) for schedule in SCHEDULES)


def test_emulated_faults_all_apply_to_the_kernels_as_shipped() -> None:
    names = [fault.name for fault in fault_list()]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
    for fault in fault_list():
        fault.plant()


def test_emulated_kernels_that_do_not_compile_are_not_taken_for_caught() -> None:
    fault = fault_list()[0]
    broken = type(fault)(name="", file=fault.file, old=fault.old, new="no C++", check=fault.check)
    with pytest.raises(CompileError):
        what_catches(broken, broken.check, SCHEDULES[0])
