from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from flowkit.store.read.handles import keep_freed_memory

# Prints the page faults of allocating and freeing arrays again, in the main thread and in another one.
_FAULTS = """
import resource, sys, threading
import numpy as np
from flowkit.store.read.handles import keep_freed_memory

def allocate(times):
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(times):
        arrays = [np.ones(mib << 20, np.uint8) for mib in (3, 5, 7)]
        del arrays
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

def work():
    allocate(3)
    print(allocate(10))

if sys.argv[1] == "keep":
    assert keep_freed_memory()
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def page_faults(word: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", _FAULTS, word], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    kept, returned = page_faults("keep"), page_faults("return")
    assert len(kept) == len(returned) == 2
    # Relative, because huge pages make faults rarer; here 17,640 against 0.
    assert 10 * max(kept) < min(returned)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
