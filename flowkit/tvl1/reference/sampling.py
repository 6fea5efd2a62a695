"""The twin's interpolation: bilinear and bicubic samples of an image, in float64.

A sample position is in pixels of the image sampled; pixel (0, 0) has its centre at
(0, 0). Beyond the frame an image continues with the values of its edge.
"""

from __future__ import annotations

import numpy as np

from flowkit.typing import Float64


def sample_axis_linear(image: Float64, positions: Float64, axis: int) -> Float64:
    """Interpolate linearly along one axis.

    Parameters
    ----------
    image : float64 array
        Any shape.
    positions : float64 array, (m,)
        Positions along `axis`, px; clamped to the image.
    axis : int
        The axis to resample.

    Returns
    -------
    float64 array
        Shape of `image`, with m along `axis`.
    """
    last = image.shape[axis] - 1
    at = np.clip(positions, 0, last)
    left = np.floor(at).astype(np.intp)
    right = np.minimum(left + 1, last)
    fraction = (at - left).reshape([-1 if k == axis % image.ndim else 1 for k in range(image.ndim)])
    a, b = image.take(left, axis), image.take(right, axis)
    out: Float64 = a + fraction * (b - a)
    return out


def keys_weights(t: Float64, a: float) -> tuple[Float64, Float64, Float64, Float64]:
    """Return the cubic convolution weights of the taps at -1, 0, 1, 2.

    Written as polynomials that give exactly (0, 1, 0, 0) at t = 0, so that sampling at a
    pixel returns that pixel and identical frames give a residual of exactly zero.

    Parameters
    ----------
    t : float64 array
        Distance from tap 0, in [0, 1).
    a : float
        Slope parameter; -0.5 is Catmull-Rom (IPOL, OpenCV CUDA), -0.75 OpenCV's CPU.

    Returns
    -------
    tuple of four float64 arrays of the shape of `t`

    Notes
    -----
    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE
    Trans. ASSP 29 (1981), equation 15 (with a left free, its equation 4).
    """
    before = a * t * (1 - t) ** 2
    here = 1 + t * t * ((a + 2) * t - (a + 3))
    after = t * (-a + t * ((2 * a + 3) - (a + 2) * t))
    beyond = a * t * t * (1 - t)
    return before, here, after, beyond


def sample_bicubic(images: Float64, x: Float64, y: Float64, a: float) -> Float64:
    """Interpolate images bicubically at arbitrary positions.

    Parameters
    ----------
    images : float64 array, (..., H, W)
    x, y : float64 array, (h, w)
        Positions, px; anywhere: taps outside take the value of the edge.
    a : float
        Keys' parameter.

    Returns
    -------
    float64 array, (..., h, w)
    """
    height, width = images.shape[-2:]
    # From 2 px outside on, all four taps are the edge: clamping there changes nothing and
    # keeps a wild flow inside the integers.
    x, y = np.clip(x, -3, width + 2), np.clip(y, -3, height + 2)
    left, top = np.floor(x), np.floor(y)
    weights_x, weights_y = keys_weights(x - left, a), keys_weights(y - top, a)
    out = np.zeros(images.shape[:-2] + x.shape)
    for row, wy in enumerate(weights_y, start=-1):
        rows = np.clip(top + row, 0, height - 1).astype(np.intp)
        for column, wx in enumerate(weights_x, start=-1):
            columns = np.clip(left + column, 0, width - 1).astype(np.intp)
            out += wy * wx * images[..., rows, columns]
    return out
