"""A call that must end in time, whatever fails: a wait without an end fails a test and does not hang it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

FAULT_SECONDS = 5.0
"""Within which every fault of a device ends a call, with its cause."""


def ends_in_time(call: Callable[[], Result], seconds: float = FAULT_SECONDS) -> Result:
    """Return what a call returns, or raise what it raises; fail if it takes longer than `seconds`."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below, in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    began = time.perf_counter()
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"no end after {time.perf_counter() - began:.1f} s"
    if errors:
        raise errors[0]
    return results[0]
