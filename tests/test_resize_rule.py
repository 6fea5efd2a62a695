from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InvalidParameterError
from flowkit.resize_rule import ResizeRule, display_size

EXACT = ResizeRule(mode="size", width=340, height=256)


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
@pytest.mark.parametrize("planes", [True, False])
def test_rule_survives_json(rule: ResizeRule, planes: bool) -> None:
    decided = rule.decided(None, planes=planes)
    assert ResizeRule.from_json(decided.to_json()) == decided


def test_json_has_only_what_the_mode_uses() -> None:
    assert ResizeRule().to_json() == '{"interpolation": "auto", "mode": "short_side", "short_side": 256}'
    assert ResizeRule(mode="native").to_json() == '{"interpolation": "auto", "mode": "native"}'


def test_json_of_what_all_stores_had_before_is_as_it_was() -> None:
    before = '{"interpolation": "auto", "mode": "short_side", "short_side": 256}'
    assert ResizeRule(pixels="stored", scaler="opencv").to_json() == before
    rule = ResizeRule.from_json(before)
    assert (rule.pixels, rule.scaler) == ("stored", "opencv")
    now = ResizeRule(mode="native", pixels="square", scaler="swscale").to_json()
    assert now == '{"interpolation": "auto", "mode": "native", "pixels": "square", "scaler": "swscale"}'


@pytest.mark.parametrize(
    ("rule", "planes", "pixels", "scaler"),
    [
        (ResizeRule(), True, "square", "swscale"),
        (ResizeRule(), False, "square", "opencv"),
        (ResizeRule(interpolation="linear"), True, "square", "opencv"),
        (EXACT, True, "stored", "swscale"),
        (ResizeRule(pixels="stored", scaler="opencv"), True, "stored", "opencv"),
    ],
)
def test_a_new_store_decides_what_is_not_given(
    rule: ResizeRule, planes: bool, pixels: str, scaler: str
) -> None:
    decided = rule.decided(None, planes=planes)
    assert (decided.pixels, decided.scaler) == (pixels, scaler)


def test_an_older_store_decides_what_is_not_given() -> None:
    before = ResizeRule.from_json(ResizeRule().to_json())
    decided = ResizeRule().decided(before, planes=True)
    assert (decided.pixels, decided.scaler) == ("stored", "opencv")
    asked = ResizeRule(pixels="square").decided(before, planes=True)
    assert (asked.pixels, asked.scaler) == ("square", "opencv")


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((340, 256), 64 / 51, (427, 256)),  # 426.7
        ((720, 480), 8 / 9, (720, 540)),  # the side that grows
        ((352, 576), 24 / 11, (768, 576)),
        ((200, 112), 224 / 225, (200, 112)),  # a header's rounding
        ((320, 240), 1.0, (320, 240)),
        ((320, 240), 255.0, (320, 240)),  # damage
        ((320, 240), 1e-9, (320, 240)),
    ],
)
def test_square_pixels_stretch_the_side_that_grows(
    size: tuple[int, int], aspect: float, shown: tuple[int, int]
) -> None:
    assert display_size(*size, aspect) == shown
    assert ResizeRule(mode="native", pixels="square").target_size(*size, aspect) == shown
    assert ResizeRule(mode="native").target_size(*size, aspect) == size


def test_a_short_side_is_that_of_the_frame_as_shown() -> None:
    rule = ResizeRule(short_side=256, pixels="square")
    assert rule.target_size(720, 576, 64 / 45) == (455, 256)
    assert rule.target_size(576, 720, 45 / 64) == (256, 455)
    assert rule.target_size(340, 256, 64 / 51) == (427, 256)
    assert EXACT.target_size(720, 576, 64 / 45) == (340, 256)


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
        ({"pixels": "round"}, "pixels"),
        ({"scaler": "area"}, "scaler"),
        ({"mode": "size", "width": 340, "height": 256, "pixels": "square"}, "take pixels 'stored'"),
        ({"interpolation": "linear", "scaler": "swscale"}, "take scaler 'opencv'"),
    ],
)
def test_rule_that_fits_no_mode_is_refused(rule: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidParameterError, match=word):
        ResizeRule(**rule)  # type: ignore[arg-type]


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
