"""Random grey frames, and the pairs of consecutive ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def greys(n: int, height: int = 20, width: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (n, height, width), dtype=np.uint8)


def forward(n: int) -> NDArray[np.int32]:
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=1).astype(np.int32)
