"""The gating trainer's models: two streams, the gate, every fusion, and honest statistics.

Names load on first use, so that `import gating` stays light and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
