"""OpenCV's dense inverse search: `cv2.DISOpticalFlow`, by its own presets.

Source: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016
(arXiv:1603.03590), with the variational refinement of its section 2.3. The flow is cv2's, bit for bit.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from types import MappingProxyType
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.methods.opencv_pairs import OpenCVMethod, OpenCVPairs
from flowkit.typing import UInt8

LEAST_SIDE_PX = 12
"""cv2 refuses frames whose longer side is shorter."""

_FLOW_RATIO = 5
"""Fifths of a patch by which cv2 chooses the coarsest level of small frames."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DISMethod(OpenCVMethod):
    """DIS with one set of cv2's parameters; each is a setter of `cv2.DISOpticalFlow`.

    Parameters
    ----------
    finest_scale : int
        Pyramid level that the flow is computed to, halves of the frame; 0 is the frame itself.
    patch_size, patch_stride : int
        Of the patches, px.
    gradient_descent_iterations : int
        Of each patch.
    variational_refinement_iterations : int
        Of each level; 0 is none.
    variational_refinement_alpha, variational_refinement_delta, variational_refinement_gamma : float
        Weights of smoothness, colour constancy and gradient constancy.
    use_mean_normalization, use_spatial_propagation : bool
        Compare patches less their means; offer a patch the flow of its neighbours.
    """

    name: ClassVar[str] = "dis"

    finest_scale: int
    patch_size: int = 8
    patch_stride: int
    gradient_descent_iterations: int
    variational_refinement_iterations: int
    variational_refinement_alpha: float = 20.0
    variational_refinement_delta: float = 5.0
    variational_refinement_gamma: float = 10.0
    use_mean_normalization: bool = True
    use_spatial_propagation: bool = True

    def load(self) -> OpenCVPairs:
        """Return what computes the flow."""
        return OpenCVPairs(
            name=self.name,
            solve=_Solve(self),
            refusal=functools.partial(_refusal, self),
        )


# cv2 5.0, modules/video/src/dis_flow.cpp, DISOpticalFlow::create; 4.8 has the same.
PRESETS = MappingProxyType(
    {
        "medium": DISMethod(
            finest_scale=1,
            patch_stride=3,
            gradient_descent_iterations=25,
            variational_refinement_iterations=5,
        ),
        "fast": DISMethod(
            finest_scale=2,
            patch_stride=4,
            gradient_descent_iterations=16,
            variational_refinement_iterations=5,
        ),
        "ultrafast": DISMethod(
            finest_scale=2,
            patch_stride=4,
            gradient_descent_iterations=12,
            variational_refinement_iterations=0,
        ),
    }
)
"""cv2's presets by name."""
DISMethod.presets = PRESETS


class _Solve:
    """Solves pairs by one object of cv2's a thread: its buffers save a tenth of the time, for one call."""

    def __init__(self, method: DISMethod) -> None:
        self._method = method
        self._of_thread = threading.local()

    def __call__(self, I0: UInt8, I1: UInt8) -> NDArray[np.float32]:
        if _coarsest_level(self._method, I0.shape[1], I0.shape[0]) < self._method.finest_scale:
            # Of so small a frame cv2 changes the levels and the patches of its object for good.
            solver = _make_dis(self._method)
        else:
            solver = getattr(self._of_thread, "solver", None) or _make_dis(self._method)
            self._of_thread.solver = solver
        return np.asarray(solver.calc(I0, I1, None), np.float32)


def _make_dis(method: DISMethod) -> Any:
    solver = cv2.DISOpticalFlow.create()
    solver.setFinestScale(method.finest_scale)
    solver.setPatchSize(method.patch_size)
    solver.setPatchStride(method.patch_stride)
    solver.setGradientDescentIterations(method.gradient_descent_iterations)
    solver.setVariationalRefinementIterations(method.variational_refinement_iterations)
    solver.setVariationalRefinementAlpha(method.variational_refinement_alpha)
    solver.setVariationalRefinementDelta(method.variational_refinement_delta)
    solver.setVariationalRefinementGamma(method.variational_refinement_gamma)
    solver.setUseMeanNormalization(method.use_mean_normalization)
    solver.setUseSpatialPropagation(method.use_spatial_propagation)
    return solver


def _coarsest_level(method: DISMethod, width: int, height: int) -> int:
    """Return the coarsest level that cv2 takes for frames of this size, px, neither side under a patch."""
    shorter, longer, patch = min(width, height), max(width, height), method.patch_size
    return min(int(math.log2(longer / (4 * patch)) + 0.5), int(math.log2(shorter // patch)))


def _refusal(method: DISMethod, width: int, height: int) -> str:
    """Return why cv2 would read beyond frames of this size, px; "" where it would not.

    Where its coarsest level is finer than `finest_scale`, it takes another by the width alone, whatever the
    height: a level lower than a patch ends the process (of 200x12 px it does).
    """
    shorter, patch = min(width, height), method.patch_size
    if max(width, height) < LEAST_SIDE_PX or shorter < patch:
        return (
            f"it needs {patch} px for a patch, and {LEAST_SIDE_PX} px on the longer side; "
            "enlarge them with --size"
        )
    if _coarsest_level(method, width, height) >= method.finest_scale:
        return ""
    chosen = max(0, math.floor(math.log2(2 * width / (_FLOW_RATIO * patch))))
    if shorter >> chosen >= patch:
        return ""
    return f"OpenCV's coarsest level would be lower than a patch of {patch} px; enlarge them with --size"
