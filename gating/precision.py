"""Mixed precision: which, and how it is switched on."""

from __future__ import annotations

import torch


def precision_of(amp: bool, device: torch.device) -> torch.dtype | None:
    """Return bfloat16, float16 on GPUs that lack it, or None without mixed precision."""
    if not amp:
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Return the context in which networks run; it does nothing without mixed precision."""
    return torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None)
