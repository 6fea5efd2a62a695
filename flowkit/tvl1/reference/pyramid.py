"""The twin's pyramids: level sizes, the three ways down, and the flow's way up, in float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.params import MIN_LEVEL_SIDE_PX, TVL1Params
from flowkit.tvl1.reference.sampling import sample_axis_linear, sample_bicubic
from flowkit.typing import Float64

ZOOM_SIGMA_PX = 0.6
"""Blur that an image needs per octave of zoom (IPOL 2013.26, zoom.c)."""

ZOOM_BICUBIC_A = -0.5
"""Keys' parameter of IPOL's zoom, whatever the warp uses."""

GAUSSIAN_WINDOW_SIGMAS = 5
"""Standard deviations at which IPOL's Gaussian is cut (IPOL 2013.26, mask.c)."""


def level_sizes(shape: tuple[int, int], params: TVL1Params) -> list[tuple[int, int]]:
    """Return (height, width) of each pyramid level in px, the frame itself first.

    `resize` and `pyrdown` make no level with a side under MIN_LEVEL_SIDE_PX; `gaussian`
    makes 1 + log(diagonal / 16) / log(1 / step) levels, rounded down. The frame is always
    a level, however small.

    Notes
    -----
    Source: OpenCV optflow/src/tvl1flow.cpp, calc (sizes round half to even); OpenCV 2.4
    gpu/src/pyramids.cpp, pyrDown; IPOL 2013.26 main.c and zoom.c (sizes round half up).
    """
    sizes = [shape]
    while len(sizes) < _most_levels(shape, params):
        height, width = (_shrink(side, params) for side in sizes[-1])
        if params.pyramid != "gaussian" and min(height, width) < MIN_LEVEL_SIDE_PX:
            break
        sizes.append((height, width))
    return sizes


def _most_levels(shape: tuple[int, int], params: TVL1Params) -> int:
    if params.pyramid != "gaussian":
        return params.nscales
    levels = 1 + math.log(math.hypot(*shape) / 16) / math.log(1 / params.scale_step)
    return max(1, min(params.nscales, int(levels)))


def _shrink(side: int, params: TVL1Params) -> int:
    if params.pyramid == "pyrdown":
        return (side + 1) // 2
    if params.pyramid == "gaussian":
        return max(1, int(side * params.scale_step + 0.5))
    return round(side * params.scale_step)


def build_pyramid(image: Float64, params: TVL1Params) -> list[Float64]:
    """Return the levels of an image, the image itself first.

    Parameters
    ----------
    image : float64 array, (H, W)
    params : TVL1Params

    Returns
    -------
    list of float64 arrays of the shapes that `level_sizes` gives
    """
    height, width = image.shape
    levels = [image]
    for size in level_sizes((height, width), params)[1:]:
        levels.append(_level_below(levels[-1], size, params))
    return levels


def _level_below(image: Float64, size: tuple[int, int], params: TVL1Params) -> Float64:
    if params.pyramid == "pyrdown":
        return pyr_down(image)
    if params.pyramid == "gaussian":
        return zoom_out(image, size, params.scale_step)
    return resize_bilinear(image, size, step=params.scale_step)


def resize_bilinear(image: Float64, size: tuple[int, int], *, step: float | None = None) -> Float64:
    """Resize with half-pixel centres: (x + 1/2) / step - 1/2, as cv2.resize INTER_LINEAR.

    Parameters
    ----------
    image : float64 array, (..., H, W)
    size : (height, width)
        Of the result, px.
    step : float, optional
        Ratio of the two grids where it is given rather than the sizes: cv2.resize called
        with fx samples at exactly 1/fx although it rounds the size. Default: by the sizes.

    Returns
    -------
    float64 array, (..., height, width)
    """
    for axis, length in zip((-2, -1), size, strict=True):
        stride = image.shape[axis] / length if step is None else 1 / step
        image = sample_axis_linear(image, (np.arange(length) + 0.5) * stride - 0.5, axis)
    return image


def zoom_bilinear(image: Float64, size: tuple[int, int]) -> Float64:
    """Resize with the first samples on each other: x * W / width, bilinear.

    This is the geometry of pyrDown (level pixel x is at pixel 2x), and of the resize that
    OpenCV's CUDA code brings the flow up with.

    Parameters
    ----------
    image : float64 array, (..., H, W)
    size : (height, width)
        Of the result, px.

    Returns
    -------
    float64 array, (..., height, width)
    """
    for axis, length in zip((-2, -1), size, strict=True):
        image = sample_axis_linear(image, np.arange(length) * (image.shape[axis] / length), axis)
    return image


def pyr_down(image: Float64) -> Float64:
    """Blur with (1, 4, 6, 4, 1)/16 along each axis and keep every second pixel.

    The border mirrors about the edge pixel (BORDER_REFLECT_101), as in cv2.pyrDown.

    Parameters
    ----------
    image : float64 array, (H, W)

    Returns
    -------
    float64 array, ((H + 1) // 2, (W + 1) // 2)
    """
    padded = np.pad(image, 2, mode="reflect")
    height, width = image.shape
    kernel = (1, 4, 6, 4, 1)
    rows = np.sum([k * padded[i : i + height : 2] for i, k in enumerate(kernel)], axis=0)
    both = np.sum([k * rows[:, i : i + width : 2] for i, k in enumerate(kernel)], axis=0)
    out: Float64 = both / 256
    return out


def gaussian_blur(image: Float64, sigma: float) -> Float64:
    """Blur with a Gaussian cut at five standard deviations.

    Parameters
    ----------
    image : float64 array, (H, W)
    sigma : float
        Standard deviation, px; 0 returns the image.

    Returns
    -------
    float64 array, (H, W)

    Notes
    -----
    Source: IPOL 2013.26, mask.c, gaussian. Its border mirrors about the first pixel but
    about the outer edge of the last one; kept, since the preset stands for that code.
    """
    if sigma == 0:
        return image
    radius = int(GAUSSIAN_WINDOW_SIGMAS * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (1, 0):
        centres = np.arange(image.shape[axis])
        taps = [
            weight * image.take(_mirrored(centres + offset, len(centres)), axis)
            for offset, weight in zip(offsets, kernel, strict=True)
        ]
        image = np.sum(taps, axis=0)
    return image


def _mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    while index.min() < 0 or index.max() >= length:
        index = np.abs(index)
        index = np.where(index >= length, 2 * length - 1 - index, index)
    return index


def zoom_out(image: Float64, size: tuple[int, int], step: float) -> Float64:
    """Blur by the zoom's sigma and sample bicubically at x / step.

    Parameters
    ----------
    image : float64 array, (H, W)
    size : (height, width)
        Of the result, px.
    step : float
        In (0, 1): the result's size relative to the image's.

    Returns
    -------
    float64 array, (height, width)

    Notes
    -----
    Source: IPOL 2013.26, zoom.c: sigma = 0.6 * sqrt(1 / step^2 - 1).
    """
    blurred = gaussian_blur(image, ZOOM_SIGMA_PX * math.sqrt(1 / step**2 - 1))
    y, x = np.indices(size, dtype=np.float64) / step
    return sample_bicubic(blurred, x, y, ZOOM_BICUBIC_A)


def zoom_in(image: Float64, size: tuple[int, int]) -> Float64:
    """Sample bicubically at x * W / width: IPOL's way of bringing the flow up (zoom.c).

    Parameters
    ----------
    image : float64 array, (..., H, W)
    size : (height, width)
        Of the result, px.

    Returns
    -------
    float64 array, (..., height, width)
    """
    y, x = np.indices(size, dtype=np.float64)
    y, x = y * (image.shape[-2] / size[0]), x * (image.shape[-1] / size[1])
    return sample_bicubic(image, x, y, ZOOM_BICUBIC_A)


def upsample_flow(u: Float64, size: tuple[int, int], params: TVL1Params) -> Float64:
    """Bring the flow of a level to the next finer one.

    Resampled with the geometry of the pyramid and multiplied by 1 / scale_step.

    Parameters
    ----------
    u : float64 array, (2, H, W)
        px of its own level.
    size : (height, width)
        Of the finer level, px.
    params : TVL1Params

    Returns
    -------
    float64 array, (2, height, width)
        px of the finer level.
    """
    return _upsample(u, size, params) / params.scale_step


def upsample_dual(p: Float64, size: tuple[int, int], params: TVL1Params) -> Float64:
    """Bring the dual variable of a level to the next finer one: the start that `dual_start` names.

    Directions do not scale, so its values are only resampled. The components across the last
    column and row, of which `steps.divergence` knows nothing, are zero.

    Parameters
    ----------
    p : float64 array, (2, 2, H, W)
    size : (height, width)
        Of the finer level, px.
    params : TVL1Params

    Returns
    -------
    float64 array, (2, 2, height, width)
    """
    fine = _upsample(p, size, params)
    fine[:, 0, :, -1] = 0
    fine[:, 1, -1, :] = 0
    return fine


def _upsample(planes: Float64, size: tuple[int, int], params: TVL1Params) -> Float64:
    resample = {"resize": resize_bilinear, "pyrdown": zoom_bilinear, "gaussian": zoom_in}[params.pyramid]
    return resample(planes, size)
