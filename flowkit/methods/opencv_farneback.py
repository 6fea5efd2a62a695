"""OpenCV's polynomial expansion: `cv2.calcOpticalFlowFarneback`.

Source: Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003
(doi 10.1007/3-540-45103-X_50). The flow is cv2's, bit for bit.
"""

from __future__ import annotations

import dataclasses
import functools
from types import MappingProxyType
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.methods.opencv_pairs import OpenCVMethod, OpenCVPairs
from flowkit.typing import UInt8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FarnebackMethod(OpenCVMethod):
    """Farnebäck's method with one set of cv2's parameters, under cv2's names.

    Parameters
    ----------
    pyr_scale : float
        Size of a pyramid level relative to the one below it.
    levels : int
        Pyramid levels.
    winsize : int
        Side of the averaging window, px.
    iterations : int
        Of each level.
    poly_n : int
        Side of the neighbourhood of the polynomial, px.
    poly_sigma : float
        Standard deviation of its weights, px.
    flags : int
        0: a box window, and no initial flow.
    """

    name: ClassVar[str] = "farneback"

    pyr_scale: float = 0.5
    levels: int
    winsize: int
    iterations: int
    poly_n: int = 5
    poly_sigma: float
    flags: int = 0

    def load(self) -> OpenCVPairs:
        """Return what computes the flow."""
        return OpenCVPairs(name=self.name, solve=functools.partial(_solve, dataclasses.asdict(self)))


PRESETS = MappingProxyType(
    {
        # samples/python/opt_flow.py and the tutorial on optical flow; what most scripts call.
        "samples": FarnebackMethod(levels=3, winsize=15, iterations=3, poly_sigma=1.2),
        # cv2.FarnebackOpticalFlow.create() without arguments.
        "defaults": FarnebackMethod(levels=5, winsize=13, iterations=10, poly_sigma=1.1),
    }
)
"""Sets of parameters in common use, by name."""
FarnebackMethod.presets = PRESETS


def _solve(params: dict[str, float], I0: UInt8, I1: UInt8) -> NDArray[np.float32]:
    flow = cv2.calcOpticalFlowFarneback(I0, I1, None, **params)  # type: ignore[call-overload]
    return np.asarray(flow, np.float32)
