"""Checks of an engine's input: grey images, and batches of frames with a list of pairs."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_array

Grey: TypeAlias = NDArray[np.uint8 | np.float32]
"""Grey values in [0, 255]."""


def check_pair(I0: ArrayLike, I1: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return two grey images as arrays, after checking that they can be a pair.

    Parameters
    ----------
    I0, I1 : array, (H, W), uint8 or floating
        Grey values in [0, 255]; both of one shape, from 1x1 up.

    Returns
    -------
    I0, I1 : array, (H, W), dtypes unchanged

    Raises
    ------
    InvalidParameterError
        A wrong shape or dtype, or a value that is not finite or outside [0, 255].
    """
    first, second = np.asarray(I0), np.asarray(I1)
    for name, image in (("I0", first), ("I1", second)):
        _check_grey(name, image, ("H", "W"))
    if first.shape != second.shape:
        raise InvalidParameterError(
            f"I0 and I1 must have one shape, got {first.shape} and {second.shape}; resize one of them"
        )
    return first, second


def check_batch(frames: ArrayLike, pairs: ArrayLike) -> tuple[Grey, NDArray[np.int32]]:
    """Return a batch as contiguous arrays, after checking that its pairs exist.

    Parameters
    ----------
    frames : array, (n, H, W), uint8 or floating
        Grey values in [0, 255].
    pairs : array, (m, 2), integer
        Rows (k, l): the flow from frame k to frame l; indices in [0, n); m may be 0.

    Returns
    -------
    frames : array, (n, H, W), uint8 or float32, C-contiguous
    pairs : int32 array, (m, 2), C-contiguous

    Raises
    ------
    InvalidParameterError
        A wrong shape or dtype, a value outside its range, or an index without a frame.
    """
    grey, rows = np.asarray(frames), np.asarray(pairs)
    _check_grey("frames", grey, ("n", "H", "W"))
    if rows.size == 0:
        rows = np.zeros((0, 2), np.int32)
    check_array("pairs", rows, ("m", 2), dtype=np.integer)
    if rows.size and not (0 <= rows.min() and rows.max() < len(grey)):
        raise InvalidParameterError(
            f"pairs must hold indices in [0, {len(grey)}), got {rows.min()} to {rows.max()}"
        )
    contiguous: Grey = np.ascontiguousarray(grey, np.uint8 if grey.dtype == np.uint8 else np.float32)
    return contiguous, np.ascontiguousarray(rows, np.int32)


def _check_grey(name: str, grey: NDArray[np.generic], shape: tuple[str, ...]) -> None:
    check_array(
        name,
        grey,
        shape,
        dtype=(np.uint8, np.floating),
        allow_empty=False,
        remedy="turn colour into grey with flowkit.frames, and other numbers into float32 in [0, 255]",
    )
    if grey.dtype == np.uint8:
        return
    low, high = float(grey.min()), float(grey.max())
    # NaN fails both comparisons, infinities one of them.
    if not (low >= 0 and high <= 255):
        raise InvalidParameterError(
            f"{name} must hold finite grey values in [0, 255], got {low:g} to {high:g}; scale or clip it"
        )
