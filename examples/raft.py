"""RAFT of torchvision as a method of `flowkit extract`, beside TV-L1 in one store.

    pip install '.[train,torchvision]'
    export RAFT_WEIGHTS=raft_large_C_T_SKHT_V2-ff5fadd5.pth
    flowkit extract videos/ out.h5 --field flow_raft=examples.raft:large
    flowkit compare out.h5 out.h5 --field-b flow_raft
    flowkit train out.h5 --field flow_raft

RAFT_WEIGHTS is a file of torchvision's weights for that size, or `random`, which tests the road without any.
Source: Teed, Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020
(arXiv:2003.12039).
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch.nn.functional import pad
from torchvision.models import optical_flow

WEIGHTS = os.environ.get("RAFT_WEIGHTS", "")
UPDATES = 12
# Feature maps are an eighth of the frame, and four levels of correlations need 16 px of them.
LEAST_SIDE_PX, MULTIPLE_PX = 128, 8

if WEIGHTS != "random" and not Path(WEIGHTS).is_file():
    raise FileNotFoundError(
        f"RAFT_WEIGHTS must be a file of torchvision's RAFT weights, or random, got {WEIGHTS!r}"
    )


def large(pairs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the flow of uint8 RGB pairs (n, 2, H, W, 3) by RAFT, float32 (n, 2, H, W), px."""
    return _flow("raft_large", pairs)


def small(pairs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the flow of uint8 RGB pairs (n, 2, H, W, 3) by RAFT's small model, float32 (n, 2, H, W), px."""
    return _flow("raft_small", pairs)


for _function in (large, small):
    _function.batch_size = 8
    # A GPU is for one process; without one, each worker computes on its own core.
    _function.one_process = torch.cuda.is_available()
    _function.version = f"torchvision {torchvision.__version__}, torch {torch.__version__}"
    _function.params = {"updates": UPDATES, "weights": Path(WEIGHTS).name}
    if WEIGHTS != "random":
        _function.params["sha256"] = hashlib.sha256(Path(WEIGHTS).read_bytes()).hexdigest()


@functools.cache
def _model(name: str) -> torch.nn.Module:
    """Return the model on its device; each process loads it at its first batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    model = getattr(optical_flow, name)(weights=None)
    if WEIGHTS != "random":
        model.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    return model.to(device).eval()


@torch.inference_mode()
def _flow(name: str, pairs: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = _model(name)
    device = next(model.parameters()).device
    images = torch.from_numpy(pairs).to(device).permute(1, 0, 4, 2, 3).float() / 127.5 - 1
    height, width = images.shape[-2:]
    left, right = _margins(width)
    top, bottom = _margins(height)
    first, second = (pad(each, (left, right, top, bottom), mode="replicate") for each in images)
    flow = model(first, second, num_flow_updates=UPDATES)[-1]
    return flow[..., top : top + height, left : left + width].float().cpu().numpy()


def _margins(side: int) -> tuple[int, int]:
    """Return the px before and after that make a side one that RAFT takes."""
    wanted = max(LEAST_SIDE_PX, -(-side // MULTIPLE_PX) * MULTIPLE_PX)
    return (wanted - side) // 2, wanted - side - (wanted - side) // 2
