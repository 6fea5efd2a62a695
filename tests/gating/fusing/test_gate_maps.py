"""The gate's input: maps of one shape, else features, else none and the reason."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InvalidParameterError
from gating.fusing.gate_maps import GateMaps, gate_maps
from gating.fusing.inputs import StreamArrays

IDS = tuple("abcd")


def stream(name: str, **arrays: np.ndarray) -> StreamArrays:
    return StreamArrays(name=name, ids=IDS, classes=("x", "y") if "scores" in arrays else (), **arrays)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(3.0, 2.0, (len(IDS), *shape)).astype(np.float32)


def test_maps_of_one_shape_stay_as_they_are() -> None:
    one, other = random(3, 2, 2).astype(np.float16), random(3, 2, 2)
    found = gate_maps(stream("a", maps=one), stream("b", maps=other, features=random(5)))
    assert isinstance(found, GateMaps)
    assert found.scaled(np.arange(2)) is found
    assert found.rgb is one
    assert np.array_equal(found.flow, other)
    assert found.about == "the gate reads the maps of both, 3 x 2 x 2"


def test_maps_are_averaged_to_the_smaller_grid_and_filled_with_zero_channels() -> None:
    one, other = random(3, 4, 4), random(2, 2, 2)
    found = gate_maps(stream("a", maps=one), stream("b", maps=other))
    assert isinstance(found, GateMaps)
    assert np.allclose(found.rgb, one.reshape(4, 3, 2, 2, 2, 2).mean(axis=(3, 5)), atol=1e-6)
    assert np.array_equal(found.flow[:, :2], other)
    assert found.flow.shape == (4, 3, 2, 2)
    assert not found.flow[:, 2:].any()
    with pytest.raises(
        InvalidParameterError, match=r"'sum' needs maps of one number of channels, got \(3, 4, 4\)"
    ):
        gate_maps(stream("a", maps=one), stream("b", maps=other), combine="sum")


def test_features_are_scaled_by_the_clips_that_the_gate_learns_from() -> None:
    one, other = random(6, 3), random(3)
    other[:, 1] = 7.0
    found = gate_maps(stream("a", features=one, maps=random(2, 2, 2)), stream("b", features=other))
    assert isinstance(found, GateMaps)
    rows = np.array([0, 2, 3])
    scaled = found.scaled(rows)
    mean = one.mean(axis=1)
    expected = (mean - mean[rows].mean(axis=0)) / mean[rows].std(axis=0)
    assert np.allclose(scaled.rgb[:, :, 0, 0], expected, atol=1e-5)
    assert not scaled.flow[:, 1].any()
    assert np.isfinite(scaled.flow).all()


def test_scores_alone_leave_no_gate() -> None:
    found = gate_maps(stream("a", scores=random(2)), stream("b", features=random(3)))
    assert found == "no gate: it reads maps or features, and of a there are scores alone"
