"""Weights by class, and epochs with as many clips of each class."""

from __future__ import annotations

from collections import Counter

import numpy as np

from gating.data.balance import balanced_keys, class_weights

# 12 clips of class 0, 5 of 1, 2 of 3.
LABELS = [0] * 12 + [1] * 5 + [3] * 2


def test_weights_are_inversely_proportional_to_the_counts_and_one_in_the_mean() -> None:
    weights = class_weights(LABELS, 4)
    # scikit-learn: n_samples / (n_classes * np.bincount(y))
    assert np.allclose(weights, [19 / (3 * 12), 19 / (3 * 5), 0, 19 / (3 * 2)])
    assert np.isclose(weights[LABELS].mean(), 1)


def test_a_balanced_epoch_has_as_many_clips_of_each_class_and_no_key_twice() -> None:
    keys = balanced_keys(LABELS, seed=3, epoch=2)
    assert len(keys) == len(set(keys)) == len(LABELS)
    counts = Counter(LABELS[index] for _, index in keys)
    assert sorted(counts.values()) == [6, 6, 7]
    for label in counts:  # none of a class is drawn twice as long as another has not been drawn
        drawn = Counter(index for _, index in keys if LABELS[index] == label)
        times = [drawn[k] for k, own in enumerate(LABELS) if own == label]
        assert max(times) - min(times) <= 1


def test_seed_and_epoch_alone_decide_an_epoch() -> None:
    keys = balanced_keys(LABELS, seed=3, epoch=2)
    assert balanced_keys(LABELS, seed=3, epoch=2) == keys
    others = [balanced_keys(LABELS, seed=3, epoch=3), balanced_keys(LABELS, seed=4, epoch=2)]
    assert all([index for _, index in other] != [index for _, index in keys] for other in others)
