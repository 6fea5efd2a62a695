"""TV-L1 flow of one pair or of many, by the engine that is chosen."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike

from flowkit.tvl1.backend import BackendName, choose_backend
from flowkit.tvl1.cuda.interop import device_index
from flowkit.tvl1.engine import check_batch, check_pair
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params
from flowkit.typing import Flow
from flowkit.validate import check_at_least


def tvl1_flow(
    I0: ArrayLike,
    I1: ArrayLike,
    *,
    params: TVL1Params | str = DEFAULT_PRESET,
    backend: BackendName = "auto",
) -> Flow:
    """Compute the optical flow from one grey image to another.

    Parameters
    ----------
    I0, I1 : array, (H, W), uint8 or floating in [0, 255]
        Grey values, of one shape.
    params : TVL1Params or the name of a preset
    backend : {"auto", "cuda", "cpu", "opencv", "reference"}
        "auto" is the first of cuda, cpu and opencv that runs here and honours `params`;
        `flowkit.available_backends` gives the state of each.

    Returns
    -------
    float32 array, (2, H, W)
        u to the right, then v downwards; px per frame step: I1(x + flow) looks like I0(x).

    Raises
    ------
    InvalidParameterError
        Images that cannot be a pair, no such preset or backend.
    BackendError
        The backend cannot run here or cannot honour the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 30), np.uint8)
    >>> tvl1_flow(image, image).shape
    (2, 20, 30)
    """
    solver = choose_backend(backend, params).solver
    flow: Flow = solver.flow_batch(np.stack(check_pair(I0, I1)), np.array([[0, 1]]))[0]
    return flow


def tvl1_flow_batch(
    frames: ArrayLike,
    pairs: ArrayLike,
    *,
    params: TVL1Params | str = DEFAULT_PRESET,
    backend: BackendName = "auto",
    threads: int | None = None,
) -> Flow:
    """Compute the optical flow of many pairs among the same frames.

    Parameters
    ----------
    frames : array, (n, H, W), uint8 or floating in [0, 255]
        Grey values. A cupy array or a torch CUDA tensor stays on its device: "auto" is then
        "cuda", the work runs on its owner's stream, and the flow is of the same kind.
    pairs : int array, (m, 2)
        Rows (k, l): the flow from frame k to frame l.
    params : TVL1Params or the name of a preset
    backend : {"auto", "cuda", "cpu", "opencv", "reference"}
    threads : int, optional
        Pairs in work at once; the result does not depend on it. Default: the cores that
        this process may use.

    Returns
    -------
    float32 array, (m, 2, H, W)
        u to the right, then v downwards; px per frame step.

    Raises
    ------
    InvalidParameterError
        Frames or pairs of a wrong shape, dtype or range; no such preset or backend.
    BackendError
        The backend cannot run here or cannot honour the parameters.
    """
    count = len(os.sched_getaffinity(0)) if threads is None else threads
    check_at_least("threads", count, 1)
    if device_index(frames) is not None:
        engine = choose_backend("cuda" if backend == "auto" else backend, params).solver
        return engine.flow_batch(frames, pairs, threads=count)
    grey, rows = check_batch(frames, pairs)
    return choose_backend(backend, params).solver.flow_batch(grey, rows, threads=count)
