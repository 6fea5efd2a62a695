"""Learned weights, for all classes and for each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions.learned import LearnedWeights
from gating.statistics import top1
from tests.make.fusion_data import accuracy, clips


def test_global_weights_lean_to_the_better_stream_and_scale_the_scores() -> None:
    data = clips(240)
    noise = dataclasses.replace(data, rgb=np.random.default_rng(5).normal(size=data.rgb.shape))
    fusion = LearnedWeights(per_class=False)
    fusion.fit(noise, seed=0)
    assert fusion.weights is not None
    flow, rgb = fusion.weights.flatten().tolist()
    assert flow > 5 * abs(rgb)


def test_per_class_weights_learn_which_stream_knows_which_class() -> None:
    fit_on, test = clips(400), clips(400, seed=1)
    fusion = LearnedWeights(per_class=True)
    fusion.fit(fit_on, seed=0)
    assert fusion.weights is not None
    leans_to_flow = fusion.weights[0] > fusion.weights[1]
    assert leans_to_flow.tolist() == [True, True, False, False]
    assert top1(fusion.apply(test), test.labels) > accuracy("search", fit_on, test)
