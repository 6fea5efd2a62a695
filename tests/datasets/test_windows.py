"""Windows of clips, read as clips that were cut to them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.datasets import ClipSamples, Sampling
from flowkit.datasets.windows import Window, WindowedStore, frame_windows, frames_seconds
from flowkit.errors import InvalidParameterError
from flowkit.extraction.config import ExtractConfig
from tests.make import clips, small

FRAMES = 12


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, and the same clip cut to frames 3 to 8, flow two frames apart."""
    folder = tmp_path_factory.mktemp("windows")
    frames = clips.moving_texture(FRAMES)
    (folder / "videos").mkdir()
    clips.lossless_mkv(folder / "videos" / "whole.mkv", frames)
    clips.lossless_mkv(folder / "videos" / "cut.mkv", frames[3:9])
    small.run(folder / "videos", folder / "out.h5", ExtractConfig(step=2, jobs=1))
    return folder / "out.h5"


@pytest.mark.parametrize(
    ("n_frames", "window", "stride", "expected"),
    [
        (10, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (11, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (4, 4, 9, [(0, 4)]),
        (3, 4, 1, [(0, 3)]),
        (6, 2, 4, [(0, 2), (4, 6)]),
    ],
)
def test_windows_start_at_multiples_of_the_stride_and_fit_wholly(
    n_frames: int, window: int, stride: int, expected: list[tuple[int, int]]
) -> None:
    found = frame_windows(n_frames, window, stride=stride)
    assert [(one.start, one.stop) for one in found] == expected
    with pytest.raises(InvalidParameterError, match="stride must be an integer >= 1"):
        frame_windows(n_frames, window, stride=0)


def test_a_window_ends_with_the_next_frame_or_after_the_last_ones_mean_length() -> None:
    pts = np.array([1.0, 1.1, 1.3, 1.6])
    assert frames_seconds(pts, range(1, 3)) == (1.1, 1.6)
    assert frames_seconds(pts, range(2, 4)) == pytest.approx((1.3, 1.8))


@pytest.mark.parametrize("sampling", [Sampling(segments=2, stack=2), Sampling(segments=3, stack=9)])
def test_a_sample_of_a_window_is_that_of_the_clip_cut_to_it(path: Path, sampling: Sampling) -> None:
    with flowkit.open(path) as store:
        windows = WindowedStore(store, [Window(video_id="whole", frames=range(3, 9))])
        one, other = (
            ClipSamples(source, ids=ids, sampling=sampling).sample(0)
            for source, ids in ((pickle.loads(pickle.dumps(windows)), None), (store, ["cut"]))
        )
        assert windows.column("n_flow") == [4]
        assert store["whole"].n_flow == FRAMES - 2
    assert one.rgb is not None
    assert other.rgb is not None
    assert np.array_equal(one.rgb, other.rgb)
    assert np.array_equal(one.flow, other.flow)
    assert np.array_equal(one.flow_scale, other.flow_scale)
