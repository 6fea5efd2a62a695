from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InvalidParameterError
from flowkit.frames import Frame, LazyFrame, pair_indices, resample, resample_lazy, resize, to_grey
from tests.make.clips import moving_texture

IMAGE = moving_texture(1, height=61, width=83)[0]


def stills(times: list[float]) -> list[Frame]:
    """Frames whose only pixel is their index."""
    return [Frame(rgb=np.full((1, 1, 3), k, np.uint8), pts_seconds=t) for k, t in enumerate(times)]


def shown(times: list[float], fps: float) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in resample(stills(times), fps)]


@pytest.mark.parametrize(
    ("size", "interpolation", "method"),
    [
        ((40, 30), "auto", cv2.INTER_AREA),
        ((100, 90), "auto", cv2.INTER_LINEAR),
        ((40, 90), "auto", cv2.INTER_LINEAR),
        ((40, 30), "linear", cv2.INTER_LINEAR),
    ],
)
def test_resize_is_opencvs_with_the_method_named(
    size: tuple[int, int], interpolation: str, method: int
) -> None:
    resized = resize(IMAGE, size, interpolation)  # type: ignore[arg-type]
    np.testing.assert_array_equal(resized, cv2.resize(IMAGE, size, interpolation=method))
    assert resized.shape == (size[1], size[0], 3)


def test_resize_to_the_same_size_gives_the_image_itself() -> None:
    assert resize(IMAGE, (83, 61)) is IMAGE


def test_grey_equals_opencvs_of_bgr() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    bgr = np.ascontiguousarray(levels[..., ::-1])
    np.testing.assert_array_equal(to_grey(levels), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))


@pytest.mark.parametrize(
    ("n", "step", "pairs"),
    [(4, 1, [[0, 1], [1, 2], [2, 3]]), (5, 3, [[0, 3], [1, 4]]), (3, 3, []), (1, 1, []), (0, 2, [])],
)
def test_pairs_are_k_and_k_plus_step(n: int, step: int, pairs: list[list[int]]) -> None:
    found = pair_indices(n, step)
    assert found.tolist() == pairs
    assert found.shape == (len(pairs), 2)


@pytest.mark.parametrize(("n", "step"), [(-1, 1), (5, 0), (5, -1)])
def test_pairs_refuse_no_step(n: int, step: int) -> None:
    with pytest.raises(InvalidParameterError):
        pair_indices(n, step)


def test_resampling_at_the_own_rate_changes_nothing() -> None:
    times = [2 + k / 25 for k in range(50)]
    assert shown(times, 25) == list(range(50))


def test_half_the_rate_takes_every_second_frame_though_milliseconds_round() -> None:
    rounded = [round(k / 30, 3) for k in range(30)]
    assert shown(rounded, 15) == list(range(0, 30, 2))


def test_twice_the_rate_repeats_frames() -> None:
    assert shown([0.0, 0.1, 0.2], 20) == [0, 0, 1, 1, 2]


def test_uneven_frames_stay_on_screen_until_the_next() -> None:
    assert shown([0.0, 0.1, 0.45, 0.5], 10) == [0, 1, 1, 1, 1, 3]


def test_ticks_start_with_the_first_frame_and_are_even() -> None:
    ticks = [frame.pts_seconds for frame in resample(stills([3.0, 3.3, 4.0]), 4)]
    assert ticks == [3.0, 3.25, 3.5, 3.75, 4.0]


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=30), st.floats(0.5, 60))
def test_resampled_frame_is_the_last_begun(gaps: list[float], fps: float) -> None:
    times = np.cumsum(gaps)
    frames = list(resample(stills(times.tolist()), fps))
    for frame in frames:
        index = int(frame.rgb[0, 0, 0])
        assert times[index] <= frame.pts_seconds + 0.0021  # the slack of 2 ms
        assert index + 1 == len(times) or times[index + 1] > frame.pts_seconds + 0.0019
    assert frames[-1].pts_seconds > times[-1] - 1 / fps


def test_resampling_holds_one_frame_at_a_time() -> None:
    taken = []

    def source() -> object:
        for frame in stills([k / 10 for k in range(100)]):
            taken.append(frame)
            yield frame

    ticks = resample(source(), 10)  # type: ignore[arg-type]
    for k in range(50):
        next(ticks)
        assert len(taken) <= k + 2


def test_resampling_nothing_gives_nothing() -> None:
    assert list(resample([], 10)) == []


def test_lazy_frames_are_resampled_alike_and_not_converted() -> None:
    def refuse(size: object) -> np.ndarray:
        raise AssertionError("converted")

    times = [0.0, 0.04, 0.08, 0.5, 0.54]
    lazy = [LazyFrame(width=1, height=1, to_rgb=refuse, pts_seconds=t) for t in times]
    for fps in (5, 40):
        ticks = [frame.pts_seconds for frame in resample_lazy(lazy, fps)]
        assert ticks == [frame.pts_seconds for frame in resample(stills(times), fps)]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_resampling_needs_a_rate(fps: float) -> None:
    with pytest.raises(InvalidParameterError, match="fps"):
        resample([], fps)
