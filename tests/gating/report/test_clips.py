"""The clips that the gate changed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from gating.report.clips import choose, find_changed
from tests.make.comparisons import predicting


def test_changed_clips_are_found_by_how_often_and_how_plainly() -> None:
    trials = [
        predicting([True, False, True, True], [False, True, True, False], seed=0, sure=2.0),
        predicting([True, True, True, False], [False, True, True, True], seed=1, sure=6.0),
    ]
    changed = find_changed(trials)
    # Clip 2 never changed, and clip 3 was saved once and lost once.
    assert [(clip.video_id, clip.saved, clip.lost) for clip in changed] == [("test0", 2, 0), ("test1", 0, 1)]
    assert changed[0].comparison is trials[1]
    assert changed[0].margin > changed[1].margin > 0


@pytest.mark.parametrize(
    ("n_saved", "n_lost", "count", "expected"),
    [
        (9, 9, 4, (2, 2)),
        (9, 9, 5, (3, 2)),
        (9, 1, 4, (3, 1)),
        (1, 9, 4, (1, 3)),
        (1, 1, 4, (1, 1)),
        (3, 3, 0, (0, 0)),
    ],
)
def test_half_of_the_shown_are_saved(
    n_saved: int, n_lost: int, count: int, expected: tuple[int, int]
) -> None:
    saved = [True] * n_saved + [False] * n_lost
    changed = find_changed([predicting(saved, [not one for one in saved])])
    shown = choose(changed, count)
    assert tuple(map(len, shown)) == expected
    assert all(clip.is_saved for clip in shown[0])
    assert not any(clip.is_saved for clip in shown[1])
