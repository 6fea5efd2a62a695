"""Images with a known motion, for every engine's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendUnavailableError
from flowkit.tvl1 import cpu
from tests.make.twin import COMPILER, ISAS

GroundTruth = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]


def wave_image(
    shape: tuple[int, int], flow: tuple[float, float] = (0.0, 0.0), seed: int = 0
) -> NDArray[np.float32]:
    """A texture given by a formula, moved by (u, v) px: exact at sub-pixel shifts, no resampling.

    Twelve plane waves 8 to 40 px long in all directions; float32 in [20, 235].
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape, dtype=np.float64)
    x, y = x - flow[0], y - flow[1]
    image = np.zeros(shape)
    for angle, length, phase in zip(
        rng.uniform(0, 2 * np.pi, 12), rng.uniform(8, 40, 12), rng.uniform(0, 2 * np.pi, 12), strict=True
    ):
        image += np.sin(2 * np.pi / length * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return (127.5 + 107.5 / 12 * image).astype(np.float32)


@pytest.fixture(scope="session")
def waves() -> Callable[..., NDArray[np.float32]]:
    """`wave_image`, for tests that cannot import this file."""
    return wave_image


@pytest.fixture(scope="session")
def ground_truth(shared_data: Path) -> Callable[[str], GroundTruth]:
    """Middlebury pairs by name: grey frames and true flow (2, H, W), NaN where unknown."""

    def read(name: str) -> GroundTruth:
        folder = shared_data / "flow_gt" / name
        first, second = (
            cv2.cvtColor(np.asarray(cv2.imread(str(folder / file))), cv2.COLOR_BGR2GRAY)
            for file in ("frame10.png", "frame11.png")
        )
        raw = (folder / "flow10.flo").read_bytes()
        height, width = first.shape
        flow = np.frombuffer(raw, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
        return (
            first.astype(np.uint8),
            second.astype(np.uint8),
            np.where(np.abs(flow) > 1e9, np.float32(np.nan), flow),
        )

    return read


@pytest.fixture
def cpu_engine() -> None:
    """Skip where nothing could have built the engine; fail where a compiler could have."""
    try:
        cpu.instruction_sets()
    except BackendUnavailableError:
        if COMPILER is None:
            pytest.skip("no C++ compiler here, so no CPU engine")
        raise


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, cpu_engine: None) -> str:
    """Each instruction set of the CPU engine that this machine has."""
    name = str(request.param)
    if name not in cpu.instruction_sets():
        pytest.skip(f"this machine has no {name}")
    return name
