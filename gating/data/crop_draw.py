"""The crops of a training step, from seeds alone: the same whatever the processes and micro-batches."""

from __future__ import annotations

import numpy as np
import torch

from gating.config import AugmentConfig
from gating.data.augment import Crops, draw_crops


def seed_of(*numbers: int) -> int:
    """Return a seed that numbers make together, 63 bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class CropDraw:
    """The crops of one step: a clip's own depend on its place in the step and on its size alone."""

    def __init__(self, augment: AugmentConfig, clips: int, seed: tuple[int, ...], mine: slice) -> None:
        self._augment, self._clips, self._seed, self._mine = augment, clips, seed, mine
        self._by_size: dict[tuple[int, int], Crops] = {}

    def crops(self, size: tuple[int, int], start: int, stop: int) -> Crops:
        """Return the crops of this process's clips from `start` to `stop`, all of one size."""
        if size not in self._by_size:
            rng = torch.Generator().manual_seed(seed_of(*self._seed))
            self._by_size[size] = draw_crops(self._clips, size, self._augment, rng)
        drawn = self._by_size[size]
        own = slice(start, stop)
        return Crops(drawn.boxes[self._mine][own], drawn.flips[self._mine][own])
