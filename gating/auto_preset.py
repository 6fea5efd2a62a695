"""The preset that `flowkit train` takes when none is named, and why."""

from __future__ import annotations

import torch

from gating.config import STREAM_PRESETS, Preset
from gating.errors import WeightsUnavailableError
from gating.models.weights import imagenet_file

MANY_CLIPS = 3000
"""From here on networks trained as a whole can repay a GPU's day."""


def auto_preset(clips: int, *, device: str) -> tuple[Preset, str]:
    """Return a preset and the reason as a line.

    Parameters
    ----------
    clips
        Of the store.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    """
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        imagenet_file(STREAM_PRESETS["frozen"])
    except WeightsUnavailableError as error:
        return "tiny", f"{error}; until then preset tiny, from scratch, which needs thousands of clips"
    line = f"{clips} clips, {'a GPU' if gpu else 'no GPU'}, ImageNet weights at hand: linear heads on them"
    if gpu and clips >= MANY_CLIPS:
        line += "; --preset tsn with --weights FILE of BN-Inception trains whole networks"
    return "frozen", line
