"""The gating trainer's models: two streams, the gate, every fusion, and honest statistics.

Names load on first use, so that `import gating` stays light and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gating.config import AugmentConfig, GateConfig, StreamConfig
    from gating.models.gate import GatingConvNet
    from gating.models.streams import Stream

__all__ = ["AugmentConfig", "GateConfig", "GatingConvNet", "Stream", "StreamConfig"]

_HOMES = {
    "AugmentConfig": "gating.config",
    "GateConfig": "gating.config",
    "GatingConvNet": "gating.models.gate",
    "Stream": "gating.models.streams",
    "StreamConfig": "gating.config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
