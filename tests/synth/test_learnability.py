"""The sets can be learned as designed: by simple features and the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.synth import Scene, SynthClip, SynthConfig, build_scene, plan_clips

CLASSES = 4
Array = NDArray[np.float64]


def look(scene: Scene) -> Array:
    """Histogram of hue over the coloured pixels of the first frame, 16 bins."""
    red, green, blue = scene.frame(0).astype(np.float64).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    across, up = blue - luma, red - luma
    coloured = np.hypot(across, up) > 40
    bins, _ = np.histogram(np.arctan2(up, across)[coloured], bins=16, range=(-np.pi, np.pi))
    return np.asarray(bins / max(1, bins.sum()), dtype=np.float64)


def course(scene: Scene) -> Array:
    """Course of the sprite's true flow (against the backdrop's) over the clip, 5 numbers."""
    steps = []
    for index in range(len(scene) - 1):
        flow = scene.flow(index).astype(np.float64)
        flow -= np.median(flow, axis=(1, 2), keepdims=True)
        sprite = np.hypot(*flow) > 0.15
        if not sprite.any():
            steps.append(np.zeros(4))
            continue
        gradient_x = np.gradient(flow, axis=2)
        middle = np.median(flow[:, sprite], axis=1)
        steps.append(np.concatenate([middle, np.median(gradient_x[:, sprite], axis=1) * 10]))
    u, v, stretch, turn = np.transpose(steps)
    return np.array(
        [np.abs(u).mean(), v.mean(), np.abs(v).mean(), np.abs(stretch).mean(), np.abs(turn).mean()]
    )


@dataclass(frozen=True)
class Learned:
    """Nearest class mean, of a look or a course."""

    means: Array
    scale: Array

    @classmethod
    def from_clips(cls, features: Array, targets: NDArray[np.int64]) -> Learned:
        means = np.array([features[targets == target].mean(axis=0) for target in np.unique(targets)])
        return cls(means=means, scale=features.std(axis=0) + 1e-6)

    def accuracy(self, features: Array, targets: NDArray[np.int64]) -> float:
        distance = ((features[:, None] - self.means) / self.scale) ** 2
        return float((distance.sum(axis=2).argmin(axis=1) == targets).mean())


CLEAN = SynthConfig(classes=CLASSES, clips=12, frames=8, seed=1)


def seen(config: SynthConfig) -> tuple[list[SynthClip], Array, Array]:
    clips = plan_clips(config)
    scenes = [build_scene(clip, config) for clip in clips]
    return clips, np.array([look(scene) for scene in scenes]), np.array([course(scene) for scene in scenes])


def numbered(names: list[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


@pytest.fixture(scope="module")
def learned() -> tuple[Learned, Learned]:
    """By look and by course, from clean clips."""
    clips, looks, courses = seen(CLEAN)
    labels = numbered([clip.label for clip in clips])
    return Learned.from_clips(looks, labels), Learned.from_clips(courses, labels)


@pytest.mark.parametrize(
    ("reliability", "low", "high"),
    # Of the unreliable third, noise leaves chance (one in four) and a conflict leaves nothing.
    [("none", 0.9, 1.0), ("noise", 0.62, 0.9), ("conflict", 0.58, 0.68)],
)
def test_either_modality_alone_labels_the_clips_where_it_is_reliable(
    learned: tuple[Learned, Learned], reliability: str, low: float, high: float
) -> None:
    clips, looks, courses = seen(replace(CLEAN, reliability=reliability, seed=2))
    labels = numbered([clip.label for clip in clips])
    by_look, by_course = learned
    assert low <= by_look.accuracy(looks, labels) <= high
    assert low <= by_course.accuracy(courses, labels) <= high


def test_in_a_product_each_modality_has_its_own_half_and_nothing_of_the_other() -> None:
    train, test = (replace(CLEAN, classes_from="product", clips=4, seed=seed) for seed in (3, 4))
    clips, looks, courses = seen(train)
    others, new_looks, new_courses = seen(test)

    def accuracy(features: Array, new: Array, of: str) -> float:
        targets, new_targets = (numbered([getattr(clip, of) for clip in half]) for half in (clips, others))
        return Learned.from_clips(features, targets).accuracy(new, new_targets)

    assert accuracy(looks, new_looks, "appearance") >= 0.9
    assert accuracy(courses, new_courses, "motion") >= 0.9
    # Chance is 1/4 of 64 clips; .25 + 3 standard deviations is .41.
    assert accuracy(looks, new_looks, "motion") <= 0.41
    assert accuracy(courses, new_courses, "appearance") <= 0.41
