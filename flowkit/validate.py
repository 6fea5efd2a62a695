"""Checks of arguments and options, and the one form of the message where a value is wrong.

Each raises `InvalidParameterError` and returns nothing. A message has the name, what was expected,
what was got and, where there is one, the remedy: "scale_step must be in (0, 1), got 1.2". NaN passes
no check of a number.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, Protocol

from flowkit.errors import InvalidParameterError

if TYPE_CHECKING:
    import numpy as np

Bounds = Literal["[]", "(]", "[)", "()"]

_SHOWN_CHARACTERS = 300


class _Shortened(reprlib.Repr):
    """Forms of values for messages: as repr's, but for what is long, deep or an integer beyond its limit."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 12
        self.maxstring = self.maxlong = self.maxother = 200

    def repr_int(self, x: int, level: int) -> str:
        # Python makes no text of an integer of more than 4300 digits.
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"<int of {x.bit_length()} bits>"


_shortened = _Shortened()


def shown(value: object) -> str:
    """Return a value's repr for a message, cut where it is long: files hold values of any size."""
    return cut(_shortened.repr(value))


def cut(text: str) -> str:
    """Return a text for a message, its middle cut out where it is long."""
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:half]}...{text[-half:]}"


class Shaped(Protocol):
    """An array of NumPy or of another library that has its dtypes."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""


def check_that(name: str, value: object, ok: bool, expected: str, *, remedy: str = "") -> None:
    """Raise unless `ok`, for conditions without a check of their own; `expected` follows "must be"."""
    if not ok:
        raise _wrong(name, value, expected, remedy=remedy)


def check_choice(name: str, value: object, supported: Collection[object], *, where: str = "") -> None:
    """Raise unless `value` is one of `supported`.

    Parameters
    ----------
    where
        Scope of these values, such as "on this machine".
    """
    try:
        found = value in supported
    except TypeError:  # a list from a file has no hash
        found = False
    if not found:
        values = ", ".join(map(str, supported)) or "none"
        of_what = f" {where}" if where else ""
        raise InvalidParameterError(
            f"Invalid {name} ({shown(value)}). Supported values{of_what} are {values}"
        )


def check_at_least(name: str, value: float, least: float, *, unit: str = "") -> None:
    """Raise unless `value` >= `least`."""
    if not value >= least:
        raise _wrong(name, value, f">= {least}", unit=unit)


def check_integer(name: str, value: object, least: int, *, unit: str = "") -> None:
    """Raise unless `value` is an int >= `least`; True and False are none."""
    if isinstance(value, bool) or not (isinstance(value, int) and value >= least):
        raise _wrong(name, value, f"an integer >= {least}", unit=unit)


def check_positive(name: str, value: float, *, unit: str = "") -> None:
    """Raise unless `value` is finite and above zero."""
    if not 0 < value < math.inf:
        raise _wrong(name, value, "finite and > 0", unit=unit)


def check_range(
    name: str, value: float, low: float, high: float, *, bounds: Bounds = "[]", unit: str = ""
) -> None:
    """Raise unless `value` is between `low` and `high`.

    Parameters
    ----------
    bounds
        A square bracket where the end belongs to the range, a round one where it does not.
    """
    above = low <= value if bounds[0] == "[" else low < value
    below = value <= high if bounds[1] == "]" else value < high
    if not (above and below):
        raise _wrong(name, value, f"in {bounds[0]}{low}, {high}{bounds[1]}", unit=unit)


def check_array(
    name: str,
    array: Shaped,
    shape: tuple[int | str, ...],
    *,
    dtype: type[np.generic] | tuple[type[np.generic], ...] | None = None,
    allow_empty: bool = True,
    remedy: str = "",
) -> None:
    """Raise unless an array has this shape and dtype.

    Parameters
    ----------
    shape
        A number for an axis of that length, a name such as "H" for one of any length.
    dtype
        A dtype in the machine's byte order, a family of them in any (`np.floating`), or several;
        None: any.
    allow_empty
        An axis may have the length 0.
    """
    kinds = dtype if isinstance(dtype, tuple) else () if dtype is None else (dtype,)
    fits = len(array.shape) == len(shape) and all(
        isinstance(wanted, str) or wanted == length for wanted, length in zip(shape, array.shape, strict=True)
    )
    typed = not kinds or any(_is_a(array.dtype, kind) for kind in kinds)
    if fits and typed and (allow_empty or 0 not in array.shape):
        return
    axes = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    words = ("" if allow_empty else "non-empty", " or ".join(kind.__name__ for kind in kinds), axes)
    advice = f"; {remedy}" if remedy else ""
    raise InvalidParameterError(
        f"{name} must be {' '.join(filter(None, words))}, got {array.dtype} {tuple(array.shape)}{advice}"
    )


def _is_a(dtype: np.dtype[np.generic], kind: type[np.generic]) -> bool:
    import numpy as np  # options are checked before any command needs it

    return np.issubdtype(dtype, kind) and (dtype.isnative or dtype.type is not kind)


def _wrong(
    name: str, value: object, expected: str, *, unit: str = "", remedy: str = ""
) -> InvalidParameterError:
    unit, remedy = unit and f" {unit}", remedy and f"; {remedy}"
    return InvalidParameterError(f"{name} must be {expected}{unit}, got {shown(value)}{remedy}")
