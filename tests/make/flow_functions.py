"""Functions of one's own for the tests of methods: pairs (n, 2, H, W, 3) in, flow (n, 2, H, W) out."""

from __future__ import annotations

import os
import time

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.uint8]
Flow = NDArray[np.float32]

calls: list[int] = []
"""Number of pairs of each call of `red`, in this process."""


def red(pairs: Pairs) -> Flow:
    """Return as u the red of the first frame, as v that of the second, an eighth of a px a level."""
    calls.append(len(pairs))
    return pairs[..., 0].astype(np.float32) / np.float32(8)


red.batch_size = 3  # type: ignore[attr-defined]
red.params = {"channel": 0}  # type: ignore[attr-defined]
red.version = "7"  # type: ignore[attr-defined]


def process(pairs: Pairs) -> Flow:
    """Return the process that computes, as px everywhere."""
    return np.full((len(pairs), 2, *pairs.shape[2:4]), os.getpid() % 500, np.float32)


def alone(pairs: Pairs) -> Flow:
    """As `process`, which says that one is enough."""
    return process(pairs)


def hangs_at_white(pairs: Pairs) -> Flow:
    """As `process`; never returns from a pair that is all white."""
    if pairs.min() == 255:
        time.sleep(3600)
    return process(pairs)


def slow(pairs: Pairs) -> Flow:
    """As `process`, a second a pair, a pair at a time."""
    time.sleep(len(pairs))
    return process(pairs)


slow.batch_size = 1  # type: ignore[attr-defined]
alone.one_process = True  # type: ignore[attr-defined]


def bright(pairs: Pairs) -> Flow:
    """Return no flow, and NaN where a frame is bright."""
    flow = np.zeros((len(pairs), 2, *pairs.shape[2:4]), np.float32)
    return np.where(pairs[:, :1, :, :, 0] > 100, np.float32(np.nan), flow)


def double(pairs: Pairs) -> NDArray[np.float64]:
    """Return float64."""
    return np.zeros((len(pairs), 2, *pairs.shape[2:4]))


def channels_last(pairs: Pairs) -> Flow:
    """Return (n, H, W, 2)."""
    return np.zeros((*pairs.shape[:1], *pairs.shape[2:4], 2), np.float32)


def listed(pairs: Pairs) -> list[int]:
    """Return a list."""
    return [0] * len(pairs)


def failing(pairs: Pairs) -> Flow:
    """Raise."""
    raise RuntimeError("the model has no weights")


class Model:
    """A callable object, as a model is."""

    batch_size = 2

    def __call__(self, pairs: Pairs) -> Flow:
        """Return no flow."""
        return np.zeros((len(pairs), 2, *pairs.shape[2:4]), np.float32)


model = Model()


def no_batch(pairs: Pairs) -> Flow:
    """State no number of pairs that can be."""
    return process(pairs)


no_batch.batch_size = 0  # type: ignore[attr-defined]


def no_params(pairs: Pairs) -> Flow:
    """State settings that JSON cannot hold."""
    return process(pairs)


no_params.params = {"device": object()}  # type: ignore[attr-defined]
