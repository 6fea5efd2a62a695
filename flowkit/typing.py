"""Types of several packages: arrays by their contents, and names of choices."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

UInt8: TypeAlias = NDArray[np.uint8]
"""Images: RGB (..., H, W, 3), red first, or grey and other planes (..., H, W); and bytes of files."""

Float32: TypeAlias = NDArray[np.float32]

Float64: TypeAlias = NDArray[np.float64]

Flow: TypeAlias = NDArray[np.float32]
"""Flow (..., 2, H, W): u to the right, then v down, px per frame step; NaN where it is unknown."""

Codes: TypeAlias = NDArray[np.number]
"""Stored flow (..., 2, H, W), of a codec's dtype: px = codes * scale + offset."""

FrameCodec: TypeAlias = Literal["jpeg", "none"]
"""The RGB frames that a store keeps beside their flow: JPEGs, or none."""

Decoder: TypeAlias = Literal["auto", "av", "opencv"]
"""Reader of video files: PyAV, OpenCV, or PyAV where it imports and else OpenCV."""
