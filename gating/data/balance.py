"""Classes with different numbers of clips: their weights in a loss, and epochs that draw them alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gating.config import MAX_EPOCHS

# Beside seed and epoch: another stream of random numbers than the order's and the segments'.
_DRAW = 0xBA1A
# Added to the epoch of a sample's key for each time that the clip was drawn before in that epoch.
_AGAIN = MAX_EPOCHS + 1


def class_weights(labels: Sequence[int] | NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return weights inversely proportional to classes' counts, float64 (classes,), of mean 1 over clips.

    N / (number of classes with clips * clips of the class); 0 for a class without clips.

    Source: scikit-learn's `compute_class_weight("balanced")`, after King and Zeng, "Logistic Regression in
    Rare Events Data", Political Analysis 9, 2001.

    Parameters
    ----------
    labels
        Of N clips, in [0, classes).
    classes
        Their number.
    """
    counts = np.bincount(np.asarray(labels, np.int64), minlength=classes)
    there = counts > 0
    weights = np.zeros(classes)
    weights[there] = len(labels) / (there.sum() * counts[there])
    return weights


def balanced_keys(labels: Sequence[int], *, seed: int, epoch: int) -> list[tuple[int, int]]:
    """Return an epoch's sample keys, N for N clips, as many of each class as of any other, or one more.

    A class's clips come in a shuffled order, again from the start in another one where there are too few; a
    clip that is drawn again has other segments. Seed and epoch alone decide.

    Parameters
    ----------
    labels
        Of N clips.
    seed, epoch
        >= 0.

    Returns
    -------
    list of (int, int)
        Keys of `flowkit.datasets.ClipDataset`: the second number is the clip's index.
    """
    rng = np.random.default_rng((seed, epoch, _DRAW))
    own = np.asarray(labels, np.int64)
    present = rng.permutation(np.unique(own))
    keys: list[tuple[int, int]] = []
    for number, label in enumerate(present):
        clips = np.flatnonzero(own == label)
        wanted = len(own) // len(present) + (number < len(own) % len(present))
        for again in range(-(-wanted // len(clips))):
            drawn = rng.permutation(clips)[: wanted - again * len(clips)]
            keys += [(epoch + again * _AGAIN, int(index)) for index in drawn]
    return [keys[k] for k in rng.permutation(len(keys))]
