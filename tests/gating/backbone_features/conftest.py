"""Weights of a small backbone, and options that take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gating.backbone_features.options import FeatureOptions


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of the backbone `small`."""
    torch = pytest.importorskip("torch")
    from gating.models.backbones import build_backbone

    torch.manual_seed(3)
    path: Path = tmp_path_factory.mktemp("weights") / "small.pt"
    tensors = build_backbone("small").state_dict()
    # Random kernels lose strength from layer to layer; of features near zero a test tells nothing.
    torch.save({name: 4 * one if one.ndim == 4 else one for name, one in tensors.items()}, path)
    return path


@pytest.fixture
def small_options(weights: Path) -> FeatureOptions:
    return FeatureOptions(window=4, stride=2, backbone="small", weights=str(weights), device="cpu")
