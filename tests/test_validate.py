from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from flowkit.validate import (
    Bounds,
    check_array,
    check_at_least,
    check_choice,
    check_integer,
    check_positive,
    check_range,
    check_that,
    cut,
    shown,
)


def message(check: Callable[[], None]) -> str:
    with pytest.raises(InvalidParameterError) as caught:
        check()
    return str(caught.value)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (lambda: check_that("size", "8", False, "WxH"), "size must be WxH, got '8'"),
        (
            lambda: check_that("bound_px", 0, False, "> 0", remedy="TSN uses 20"),
            "bound_px must be > 0, got 0; TSN uses 20",
        ),
        (
            lambda: check_choice("codec", "x", ("i8", "i16")),
            "Invalid codec ('x'). Supported values are i8, i16",
        ),
        (
            lambda: check_choice("isa", "sse9", ["baseline"], where="on this machine"),
            "Invalid isa ('sse9'). Supported values on this machine are baseline",
        ),
        (lambda: check_choice("crops", 3, (1, 5, 10)), "Invalid crops (3). Supported values are 1, 5, 10"),
        (lambda: check_choice("kind", "x", {}), "Invalid kind ('x'). Supported values are none"),
        (lambda: check_at_least("jobs", 0, 1), "jobs must be >= 1, got 0"),
        (lambda: check_at_least("size", 7, 8, unit="px"), "size must be >= 8 px, got 7"),
        (lambda: check_integer("side", 1.5, 1, unit="px"), "side must be an integer >= 1 px, got 1.5"),
        (lambda: check_positive("fps", math.inf), "fps must be finite and > 0, got inf"),
        (lambda: check_positive("bound", 0, unit="px"), "bound must be finite and > 0 px, got 0"),
        (
            lambda: check_range("scale_step", 1.2, 0, 1, bounds="()"),
            "scale_step must be in (0, 1), got 1.2",
        ),
        (
            lambda: check_range("tau", 0.5, 0, 0.25, bounds="(]", unit="s"),
            "tau must be in (0, 0.25] s, got 0.5",
        ),
    ],
)
def test_messages_say_name_expected_and_got(check: Callable[[], None], expected: str) -> None:
    assert message(check) == expected


def test_right_values_pass() -> None:
    check_that("a", 1, True, "what it is")
    check_choice("a", "x", {"x": 1})
    check_at_least("a", 1, 1)
    check_integer("a", 1, 1)
    check_positive("a", 1e-300)


@pytest.mark.parametrize("value", [0, 1.0, True, "1", None, np.int64(1)])
def test_only_ints_are_integers(value: object) -> None:
    assert message(lambda: check_integer("a", value, 1)).startswith("a must be an integer >= 1")


@pytest.mark.parametrize(
    ("bounds", "passing"), [("[]", {0, 1, 2}), ("(]", {1, 2}), ("[)", {0, 1}), ("()", {1})]
)
def test_ends_belong_to_a_range_by_their_brackets(bounds: Bounds, passing: set[int]) -> None:
    for value in (-1, 0, 1, 2, 3):
        if value in passing:
            check_range("a", value, 0, 2, bounds=bounds)
        else:
            assert f"in {bounds[0]}0, 2{bounds[1]}, got {value}" in message(
                lambda value=value: check_range("a", value, 0, 2, bounds=bounds)  # type: ignore[misc]
            )


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_at_least("a", math.nan, 0),
        lambda: check_positive("a", math.nan),
        lambda: check_range("a", math.nan, 0, 1),
        lambda: check_range("a", math.nan, 0, 1, bounds="()"),
    ],
)
def test_nan_passes_no_check(check: Callable[[], None]) -> None:
    assert message(check).endswith("got nan")


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "expected"),
    [
        ((3, 4, 5), np.float32, {"dtype": np.float32}, "float32 (2, H, W), got float32 (3, 4, 5)"),
        ((2, 4), np.uint8, {}, "(2, H, W), got uint8 (2, 4)"),
        ((2, 4, 5), np.float64, {"dtype": np.float32}, "float32 (2, H, W), got float64 (2, 4, 5)"),
        (
            (2, 4, 5),
            np.int64,
            {"dtype": (np.uint8, np.floating), "remedy": "convert it"},
            "uint8 or floating (2, H, W), got int64 (2, 4, 5); convert it",
        ),
        ((2, 0, 5), np.uint8, {"allow_empty": False}, "non-empty (2, H, W), got uint8 (2, 0, 5)"),
    ],
)
def test_arrays_of_another_shape_or_dtype_are_refused(
    shape: tuple[int, ...], dtype: Any, options: dict[str, Any], expected: str
) -> None:
    array = np.zeros(shape, dtype)
    assert message(lambda: check_array("flow", array, (2, "H", "W"), **options)) == f"flow must be {expected}"


def test_arrays_that_fit_pass_whoever_made_them() -> None:
    check_array("flow", np.zeros((2, 0, 5), np.float16), (2, "H", "W"), dtype=(np.uint8, np.floating))
    check_array("pairs", np.zeros((0, 2), np.uint16), ("m", 2), dtype=np.integer)

    class Foreign:
        dtype, shape = np.dtype(np.uint8), (4, 5)

    check_array("frames", Foreign(), ("H", "W"), dtype=np.uint8, allow_empty=False)


def test_a_dtype_is_one_of_the_machines_byte_order() -> None:
    foreign = np.zeros(3, np.dtype(np.float32).newbyteorder())
    check_array("flow", foreign, ("n",), dtype=np.floating)
    assert "got >f4 (3,)" in message(lambda: check_array("flow", foreign, ("n",), dtype=np.float32)).replace(
        "<f4", ">f4"
    )


def test_one_axis_is_written_as_a_tuple() -> None:
    check_array("pts", np.zeros(3), ("n",))
    assert "must be (n,), got" in message(lambda: check_array("pts", np.zeros((3, 1)), ("n",)))


def test_options_are_checked_without_numpy() -> None:
    code = (
        "import sys; from flowkit.validate import check_positive; check_positive('fps', 25);"
        "sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_values_of_any_size_have_a_short_form_in_messages() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    many = ["x"] * 1_000_000
    for value in (deep, many, dict.fromkeys(range(100_000)), "y" * 1_000_000, 10**5000, -(10**5000)):
        assert len(shown(value)) <= 310
        assert len(message(lambda value=value: check_choice("it", value, ("a",)))) < 400  # type: ignore[misc]
    assert shown(10**5000) == "<int of 16610 bits>"
    assert cut("y" * 1000) == f"{'y' * 150}...{'y' * 150}"


@pytest.mark.parametrize("value", ["a", 1.5, None, [1, "x"], {"k": (1,)}, True, -3, 2**63])
def test_short_values_are_shown_as_they_are(value: object) -> None:
    assert shown(value) == repr(value)
