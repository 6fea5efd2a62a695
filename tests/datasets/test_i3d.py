"""I3D's input against the published preprocessing restated in NumPy."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit.datasets import I3DWindows, i3d_flow, i3d_frames
from flowkit.errors import ClipNotFoundError, InvalidParameterError
from tests.make.stores import noise, write_store

ONE_LEVEL = 1.01 / 127.5


def bilinear(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Enlarge (h, w) bilinearly, pixel centres at halves, the border repeated."""
    rows, columns = (
        np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
        for before, after in zip(image.shape, (height, width), strict=True)
    )
    r, c = rows.astype(int), columns.astype(int)
    below, right = np.minimum(r + 1, image.shape[0] - 1), np.minimum(c + 1, image.shape[1] - 1)
    down, across = (rows - r)[:, None], (columns - c)[None]
    upper = image[r][:, c] * (1 - across) + image[r][:, right] * across
    lower = image[below][:, c] * (1 - across) + image[below][:, right] * across
    made: NDArray[np.float64] = upper * (1 - down) + lower * down
    return made


def centre(image: NDArray[np.float64]) -> NDArray[np.float64]:
    top, left = ((side - 224) // 2 for side in image.shape)
    return image[top : top + 224, left : left + 224]


def smooth(height: int, width: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0, 255, (height, width)).round()


@pytest.mark.parametrize(
    ("size", "resized", "tolerance"),
    # Enlarged uint8 is rounded: half a level, and OpenCV's fixed-point weights, in 127.5 levels.
    [
        ((256, 340), (256, 340), 1e-6),
        ((240, 320), (256, 341), 1.01 / 127.5),
        ((320, 240), (341, 256), 1.01 / 127.5),
    ],
)
def test_frames_are_the_published_preprocessing(
    size: tuple[int, int], resized: tuple[int, int], tolerance: float
) -> None:
    planes = [smooth(*size, seed) for seed in range(3)]
    made = i3d_frames(np.stack(planes, axis=-1)[None].astype(np.uint8))
    assert made.dtype == np.float32
    assert made.shape == (1, 3, 224, 224)
    for channel, plane in enumerate(planes):
        expected = centre(bilinear(plane, *resized)) / 255 * 2 - 1
        np.testing.assert_allclose(made[0, channel], expected, atol=tolerance)


@pytest.mark.parametrize(("size", "resized"), [((256, 340), (256, 340)), ((240, 320), (256, 341))])
def test_flow_is_the_published_preprocessing(size: tuple[int, int], resized: tuple[int, int]) -> None:
    flow = noise(2, 0, height=size[0], width=size[1], sigma_px=15)
    assert np.abs(flow).max() > 20
    made = i3d_flow(flow)
    assert made.dtype == np.float32
    assert made.shape == (2, 2, 224, 224)
    # u grows with the width, v with the height: px of the resized frames.
    for component, ratio in enumerate((resized[1] / size[1], resized[0] / size[0])):
        expected = centre(bilinear(flow[0, component].astype(np.float64), *resized) * ratio)
        np.testing.assert_allclose(made[0, component], expected.clip(-20, 20) / 20, atol=1e-5)


def test_windows_have_the_fields_that_lead_from_their_frames(tmp_path: Path) -> None:
    flow = noise(9, 1, height=256, width=260)
    store = write_store(tmp_path / "out.h5", {"run/a": flow, "jump/b": flow[:2]}, codec="i16")
    windows = I3DWindows(store, ids=("run/a", "jump/b"), window=4, stride=3)
    items = [windows[k] for k in range(len(windows))]
    assert [(one["id"], one["start"], one["label"]) for one in items] == [
        *(("run/a", 0, 1), ("run/a", 3, 1)),
        ("jump/b", 0, 0),
    ]
    with flowkit.open(store) as opened:
        stored = opened["run/a"].flow()
        levels = opened["run/a"].frames()[:, 0, 0, 0]
    np.testing.assert_array_equal(items[1]["flow"], i3d_flow(stored[3:7]))
    np.testing.assert_allclose(items[1]["rgb"][:, 0, 0, 0], levels[3:7] / 127.5 - 1, atol=1e-6)
    # Frames 0, 1, 2 and the last again; fields 0, 1 and the last twice.
    np.testing.assert_allclose(items[2]["rgb"][:, 0, 0, 0], levels[[0, 1, 2, 2]] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(items[2]["flow"][2:], items[2]["flow"][[1, 1]])
    assert len(pickle.loads(pickle.dumps(windows))) == 3


def test_what_i3d_cannot_read_is_refused(tmp_path: Path) -> None:
    flow = noise(3, 1)
    with pytest.raises(InvalidParameterError, match="frames 'none'"):
        I3DWindows(write_store(tmp_path / "flow.h5", {"a": flow}, frames=False))
    with pytest.raises(InvalidParameterError, match="step 2"):
        I3DWindows(write_store(tmp_path / "step.h5", {"a": flow}, step=2))
    with pytest.raises(ClipNotFoundError, match="nobody"):
        I3DWindows(write_store(tmp_path / "out.h5", {"a": flow}), ids=["nobody"])
    with pytest.raises(InvalidParameterError, match="stride"):
        I3DWindows(tmp_path / "out.h5", stride=0)
