"""Nets on features: scale of the features, and dropout by the seed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions.attention import Attention
from gating.fusions.feature_net import FeatureNet
from gating.fusions.gmu import Gmu
from tests.make.fusion_data import clips

NETS = (Gmu, Attention)


@pytest.mark.parametrize("kind", NETS)
def test_features_of_any_scale_give_the_same_scores(kind: type[FeatureNet]) -> None:
    """Features are standardised, each stream's by itself."""
    data = clips(60)
    assert data.flow_features is not None
    scores = []
    for scale in (1.0, 1000.0):
        fusion, scaled = kind(), dataclasses.replace(data, flow_features=scale * data.flow_features)
        fusion.fit(scaled, seed=0)
        scores.append(fusion.apply(scaled))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", NETS)
def test_streams_may_have_features_of_different_sizes(kind: type[FeatureNet]) -> None:
    data = clips(20)
    assert data.rgb_features is not None
    uneven = dataclasses.replace(data, rgb_features=data.rgb_features[:, :2])
    fusion = kind()
    fusion.fit(uneven, seed=0)
    assert fusion.apply(uneven).shape == (20, 4)
