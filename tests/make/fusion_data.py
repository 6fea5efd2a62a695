"""Two noisy streams for the tests of fusions, and the scores of a fusion on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gating.fusions import FUSIONS, FusionData, Scores, build_fusion
from gating.statistics import top1

CLASSES = 4


def clips(count: int = 240, *, seed: int = 0) -> FusionData:
    """Two noisy streams; flow is good at classes 0 and 1, rgb at 2 and 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count)
    truth = np.eye(CLASSES)[labels]
    flow_is_good = (labels < 2)[:, None]
    flow = truth * np.where(flow_is_good, 3.0, 0.5) + rng.normal(size=(count, CLASSES))
    rgb = truth * np.where(flow_is_good, 0.5, 3.0) + rng.normal(size=(count, CLASSES))
    gates = rng.uniform(0.1, 2, size=(count, 2))
    project = np.random.default_rng(99).normal(size=(CLASSES, 6))
    return FusionData(
        flow=flow,
        rgb=rgb,
        labels=labels,
        flow_features=flow @ project,
        rgb_features=rgb @ project,
        gates=gates,
        gated=gates[:, :1] * flow + gates[:, 1:] * rgb,
        groups=np.arange(count) // 4,
    )


def fuse_all(
    fit_on: FusionData, apply_to: FusionData, *, seed: int, names: Iterable[str] | None = None
) -> dict[str, Scores]:
    """Fit each named fusion on held-out clips and return its scores of others; None is all that can be."""
    if names is None:
        names = [name for name in FUSIONS if apply_to.offers(build_fusion(name).needs)]
    fusions = {name: build_fusion(name) for name in names}
    for fusion in fusions.values():
        fusion.fit(fit_on, seed=seed)
    return {name: fusion.apply(apply_to) for name, fusion in fusions.items()}


def accuracy(name: str, fit_on: FusionData, apply_to: FusionData, *, seed: int = 0) -> float:
    return top1(fuse_all(fit_on, apply_to, seed=seed, names=[name])[name], apply_to.labels)
