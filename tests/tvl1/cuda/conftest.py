"""A GPU and frames that several files of the driver share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tvl1.emulation.emulator import RANDOM
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

Waves = Callable[..., NDArray[np.float32]]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """The only GPU that the engine finds; its blocks are interleaved at random."""
    return install(monkeypatch, FakeGpu(schedule=(RANDOM, 3)))


@pytest.fixture
def frames(waves: Waves) -> NDArray[np.float32]:
    """Five frames of 34x20 px, each moved by (0.4, -0.3) px from the one before."""
    return np.stack([waves((20, 34), (0.4 * k, -0.3 * k)) for k in range(5)])
