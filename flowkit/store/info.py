"""A store in a few numbers, from its index alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from flowkit.store.schema import StoreOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreInfo:
    """A store in a few numbers."""

    path: str
    format_version: str
    flowkit_version: str
    uuid: str
    created: str
    options: StoreOptions
    n_videos: int
    n_frames: int
    n_flow: int
    """Flow fields of each kind."""
    n_failures: int
    bytes: int
    """Of all its files."""
    shards: tuple[str, ...]
    missing_shards: tuple[str, ...]
    per_label: Mapping[str, int]
    per_status: Mapping[str, int]
    per_backend: Mapping[str, int]
    flow_max_px: float


def sums(table: NDArray[Any]) -> dict[str, Any]:
    """Return what of `StoreInfo` follows from the rows of `/index/videos`."""
    return {
        "n_videos": len(table),
        "n_frames": int(table["n_frames"].sum()),
        "n_flow": int(table["n_flow"].sum()),
        "per_label": _counts(table["label"]),
        "per_status": _counts(table["status"]),
        "per_backend": _counts(table["backend"]),
        "flow_max_px": float(table["flow_max_px"].max(initial=0.0)),
    }


def _counts(column: NDArray[Any]) -> dict[str, int]:
    return {raw.decode(errors="replace"): n for raw, n in sorted(Counter(column.tolist()).items())}
