from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, InvalidParameterError
from flowkit.tvl1.backend import BackendChoice, BackendName
from flowkit.tvl1.flow import tvl1_flow, tvl1_flow_batch

Waves = Callable[..., NDArray[np.float32]]


@pytest.mark.parametrize("backend", ["opencv", "reference"])
def test_one_pair(backend: BackendName, waves: Waves) -> None:
    flow = tvl1_flow(waves((40, 50)), waves((40, 50), (1.5, -0.5)), params="accurate", backend=backend)
    assert flow.dtype == np.float32
    assert flow.shape == (2, 40, 50)
    # px: total variation; OpenCV 4 rounds positions to 1/32 px.
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), [1.5, -0.5], rtol=0, atol=0.04)


@pytest.mark.parametrize("backend", ["opencv", "reference"])
def test_a_batch_equals_its_pairs(backend: BackendName) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 24), dtype=np.uint8)
    batch = tvl1_flow_batch(frames, [[0, 1], [2, 1]], params="fast", backend=backend)
    for flow, (first, second) in zip(batch, ((0, 1), (2, 1)), strict=True):
        alone = tvl1_flow(frames[first], frames[second], params="fast", backend=backend)
        assert np.array_equal(flow, alone)


def test_auto_gives_zero_for_identical_frames() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 24), dtype=np.uint8)
    assert not tvl1_flow(image, image).any()


def test_no_threads_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="threads must be >= 1, got 0"):
        tvl1_flow_batch(np.zeros((1, 8, 8), np.uint8), [[0, 0]], threads=0)


def test_a_wrong_frame_is_refused_before_any_engine() -> None:
    with pytest.raises(InvalidParameterError, match="I1 must hold finite"):
        tvl1_flow(np.zeros((8, 8)), np.full((8, 8), np.nan))


def test_ipol_by_opencv_is_refused() -> None:
    with pytest.raises(BackendError, match="has no pyramid='gaussian'"):
        tvl1_flow(np.zeros((8, 8)), np.zeros((8, 8)), params="ipol", backend="opencv")


def test_the_package_loads_opencv_only_on_use() -> None:
    code = "import sys, flowkit.tvl1, flowkit.tvl1.backend; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class OnDevice:
    """The interface of a cupy array or a torch CUDA tensor."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_device_frames_go_to_the_cuda_engine_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    class Engine:
        def flow_batch(self, frames: object, pairs: object, *, threads: int) -> object:
            asked.append(("flow_batch", frames))
            return frames

    def choose(name: str, params: object) -> BackendChoice:
        asked.append((name, params))
        return BackendChoice(name="cpu", solver=Engine(), reason="a test")  # type: ignore[arg-type]

    monkeypatch.setattr("flowkit.tvl1.flow.choose_backend", choose)
    frames = OnDevice()
    given: object = tvl1_flow_batch(frames, [[0, 1]], params="fast")  # type: ignore[arg-type]
    assert given is frames
    assert asked == [("cuda", "fast"), ("flow_batch", frames)]
