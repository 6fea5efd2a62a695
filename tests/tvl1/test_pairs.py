from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.pairs import check_batch, check_pair

GREY = np.zeros((4, 5), np.uint8)


def test_a_pair_passes_unchanged() -> None:
    first, second = check_pair(GREY, GREY.astype(np.float64))
    assert first is GREY
    assert second.dtype == np.float64


@pytest.mark.parametrize(
    ("I0", "I1", "message"),
    [
        (GREY, GREY[:, :4], r"one shape, got \(4, 5\) and \(4, 4\)"),
        (
            np.zeros((4, 5, 3), np.uint8),
            GREY,
            r"uint8 or floating \(H, W\), got uint8 \(4, 5, 3\); turn colour",
        ),
        (GREY[:0], GREY[:0], r"non-empty"),
        (GREY.astype(np.int32), GREY, r"uint8 or floating \(H, W\), got int32"),
        (GREY, np.full((4, 5), np.nan, np.float32), r"I1 must hold finite .*got nan"),
        (GREY, np.full((4, 5), np.inf), r"\[0, 255\], got inf"),
        (GREY - 1.0, GREY, r"\[0, 255\], got -1"),
        (GREY + 256.0, GREY, r"\[0, 255\], got 256"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(I0: Any, I1: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        check_pair(I0, I1)


def test_a_batch_becomes_contiguous_float32_and_int32() -> None:
    frames, pairs = check_batch(np.zeros((3, 4, 10))[:, :, ::2], [[0, 1], [2, 0]])
    assert frames.dtype == np.float32
    assert frames.flags.c_contiguous
    assert pairs.dtype == np.int32
    assert pairs.tolist() == [[0, 1], [2, 0]]


def test_bytes_stay_bytes() -> None:
    assert check_batch(GREY[None], [[0, 0]])[0].dtype == np.uint8


def test_no_pairs_is_a_batch() -> None:
    assert check_batch(GREY[None], [])[1].shape == (0, 2)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[0, 1]], r"indices in \[0, 1\), got 0 to 1"),
        ([[-1, 0]], r"got -1 to 0"),
        ([[0, 0, 0]], r"integer \(m, 2\), got int64 \(1, 3\)"),
        ([[0.0, 0.0]], r"integer \(m, 2\), got float64"),
    ],
)
def test_pairs_without_frames_are_refused(pairs: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        check_batch(GREY[None], pairs)
