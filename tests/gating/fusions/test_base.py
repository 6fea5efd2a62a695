"""Softmax, the checks of a fusion's data, and the order of fit and apply."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InvalidParameterError
from gating.fusions import build_fusion
from gating.fusions.base import softmax
from tests.make.fusion_data import clips


def test_softmax_holds_for_large_scores() -> None:
    assert softmax(np.array([[1e4, 0.0], [0.0, 0.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_a_fusion_must_be_fitted_first() -> None:
    for name in (
        "search",
        "global",
        "calibrated",
        "stack",
        "score-gate",
        "pdf",
        "features",
        "gmu",
        "attention",
    ):
        with pytest.raises(InvalidParameterError, match="must be fitted before it is applied"):
            build_fusion(name).apply(clips(5))


def test_missing_features_and_unlike_arrays_are_refused() -> None:
    data = clips(20)
    bare = dataclasses.replace(data, flow_features=None)
    with pytest.raises(InvalidParameterError, match="pooled features, got none"):
        build_fusion("features").fit(bare, seed=0)
    with pytest.raises(InvalidParameterError, match="labels must have 20 clips, got 3"):
        dataclasses.replace(data, labels=data.labels[:3])
    with pytest.raises(InvalidParameterError, match="must be \\(clips, classes\\) alike"):
        dataclasses.replace(data, rgb=data.rgb[:, :2])
    with pytest.raises(InvalidParameterError, match=r"Invalid fusion \('max'\)\. .* are rgb, flow, "):
        build_fusion("max")
