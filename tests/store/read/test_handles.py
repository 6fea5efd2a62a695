from __future__ import annotations

import ctypes

import pytest

from flowkit.store.read.handles import keep_freed_memory


def test_thresholds_are_set_where_the_c_library_has_them() -> None:
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() == hasattr(ctypes.CDLL(None), "mallopt")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
