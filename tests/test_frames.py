from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InvalidParameterError
from flowkit.frames import Frame, ResizeRule, pair_indices, resample, resize, to_grey
from tests.make.clips import moving_texture

IMAGE = moving_texture(1, height=61, width=83)[0]


def stills(times: list[float]) -> list[Frame]:
    """Frames whose only pixel is their index."""
    return [Frame(rgb=np.full((1, 1, 3), k, np.uint8), pts_seconds=t) for k, t in enumerate(times)]


def shown(times: list[float], fps: float) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in resample(stills(times), fps)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((340, 256), (340, 256)),
        ((320, 240), (320, 240)),  # never enlarged
        ((1280, 720), (455, 256)),  # 455.1
        ((720, 1280), (256, 455)),
        ((427, 512), (256, 307)),  # 306.96
        ((513, 512), (257, 256)),  # 256.5 rounds up
        ((4000, 300), (3413, 256)),
    ],
)
def test_short_side_shrinks_and_keeps_the_aspect(source: tuple[int, int], target: tuple[int, int]) -> None:
    assert ResizeRule().target_size(*source) == target


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_short_side_is_met_or_the_frame_is_left_alone(width: int, height: int, short: int) -> None:
    target = ResizeRule(short_side=short).target_size(width, height)
    if min(width, height) <= short:
        assert target == (width, height)
    else:
        assert min(target) == short
        longer = max(width, height) * short / min(width, height)
        assert abs(max(target) - longer) <= 0.5


def test_size_is_exact_and_native_is_untouched() -> None:
    assert ResizeRule(mode="size", width=340, height=256).target_size(20, 900) == (340, 256)
    assert ResizeRule(mode="native").target_size(1920, 1080) == (1920, 1080)


@pytest.mark.parametrize(
    "rule",
    [
        ResizeRule(),
        ResizeRule(short_side=128, interpolation="linear"),
        ResizeRule(mode="size", width=340, height=256),
        ResizeRule(mode="native"),
    ],
)
def test_rule_survives_json(rule: ResizeRule) -> None:
    assert ResizeRule.from_json(rule.to_json()) == rule


def test_json_has_only_what_the_mode_uses() -> None:
    assert ResizeRule().to_json() == '{"interpolation": "auto", "mode": "short_side", "short_side": 256}'
    assert ResizeRule(mode="native").to_json() == '{"interpolation": "auto", "mode": "native"}'


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"mode": "huge"}', '{"colour": 1}', '{"short_side": "256"}', '{"short_side": 0}']
)
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError):
        ResizeRule.from_json(text)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ({"mode": "wide"}, "mode"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"short_side": 0}, "short_side"),
        ({"mode": "size"}, "width"),
        ({"mode": "size", "width": 340}, "height"),
        ({"mode": "size", "width": 340, "height": 0}, "height"),
        ({"width": 340, "height": 256}, "size"),
    ],
)
def test_rule_that_fits_no_mode_is_refused(rule: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidParameterError, match=word):
        ResizeRule(**rule)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_resampling_needs_a_rate(fps: float) -> None:
    with pytest.raises(InvalidParameterError, match="fps"):
        resample([], fps)


def test_a_size_that_no_reader_would_decode_is_refused() -> None:
    wide = ResizeRule(mode="size", width=65_535, height=65_535)
    for rule, size in ((wide, (320, 240)), (ResizeRule(mode="native"), (16_384, 8193))):
        with pytest.raises(InvalidParameterError, match="the size must be 134217728 px at most, got '"):
            rule.target_size(*size)
    assert ResizeRule(mode="native").target_size(16_384, 8192) == (16_384, 8192)
    assert ResizeRule(short_side=256).target_size(65_535, 65_535) == (256, 256)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"short_side": ' + "9" * 10_000 + "}", '{"mode": []}', "3"])
def test_a_rule_s_text_from_elsewhere_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"resize rule|Invalid mode|must be") as caught:
        ResizeRule.from_json(text)
    assert len(str(caught.value)) < 700
