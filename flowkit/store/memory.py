"""Freed memory stays with the process while many large arrays come and go.

glibc returns a large array's pages to the kernel when it is freed, and each page costs a fault when
the next array touches it. Threads suffer most: reading clips on two threads took 1.0 ms of CPU time
a segment with glibc's own thresholds and .81 ms with these (.75 ms on one thread).
"""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT_BYTES = 32 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep up to 64 MB of freed memory a thread; tell whether it can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT_BYTES))
