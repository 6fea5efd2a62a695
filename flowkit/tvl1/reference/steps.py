"""The equations of TV-L1 in float64 NumPy, one function each.

Symbols are those of IPOL 2013.26: u the flow, v its twin under the data term, p the dual
variable, rho the linearised residual; taut = tau / theta, l_t = lambda theta. A flow is
(2, H, W), u1 (right) then u2 (down), px; p is (2, 2, H, W), a vector field (x, y) for each
component of u.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.sampling import sample_bicubic
from flowkit.typing import Float64

GRAD_IS_ZERO = float(np.finfo(np.float32).eps)
"""Below this |grad I1|^2 a residual within the threshold moves nothing (OpenCV's value)."""

EDGE_BLUR_SIGMA_PX = 0.8
EDGE_BLUR_RADIUS = 3
"""Of the Gaussian before the gradient of `edge_weight`, px; three sides of it are cut."""

EDGE_WEIGHT_MIN = 1e-3
"""Least weight of the total variation: with none at all a pixel would be on its own."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataTerm:
    """rho(u) = I1wx u1 + I1wy u2 + rho_c at each pixel of a level.

    Attributes
    ----------
    gradient : float64 array, (2, H, W)
        I1wx, I1wy: the warped centred differences of I1, grey levels per px.
    grad : float64 array, (H, W)
        |gradient|^2.
    rho_c : float64 array, (H, W)
        The part of the residual that u does not change, grey levels.
    """

    gradient: Float64
    grad: Float64
    rho_c: Float64


def normalize_jointly(I0: Float64, I1: Float64) -> tuple[Float64, Float64]:
    """Scale two images by one map so that their joint range is [0, 255].

    A pair of one grey value stays as it is. Source: IPOL 2013.26, image_normalization.
    """
    low, high = min(I0.min(), I1.min()), max(I0.max(), I1.max())
    if high == low:
        return I0, I1
    return 255 * (I0 - low) / (high - low), 255 * (I1 - low) / (high - low)


def centered_gradient(image: Float64) -> Float64:
    """Return the halved differences of the two neighbours, x then y.

    At the border the missing neighbour is the pixel itself (so the difference is one-sided
    and halved, in IPOL and OpenCV alike).

    Parameters
    ----------
    image : float64 array, (H, W)

    Returns
    -------
    float64 array, (2, H, W)
    """
    padded = np.pad(image, 1, mode="edge")
    x = padded[1:-1, 2:] - padded[1:-1, :-2]
    y = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return 0.5 * np.stack([x, y])


def five_tap_gradient(image: Float64) -> Float64:
    """Return (-1, 8, 0, -8, 1)/12 against the neighbours, x then y; the border repeats the edge.

    Exact for polynomials of degree four, where `centered_gradient` is for two.

    Parameters
    ----------
    image : float64 array, (H, W)

    Returns
    -------
    float64 array, (2, H, W)

    Notes
    -----
    Source: Wedel, Pock, Zach, Bischof, Cremers, "An improved algorithm for TV-L1 optical flow",
    2009, section 3.
    """
    padded = np.pad(image, 2, mode="edge")
    rows, columns = padded[2:-2], padded[:, 2:-2]
    x = 8 * (rows[:, 3:-1] - rows[:, 1:-3]) - (rows[:, 4:] - rows[:, :-4])
    y = 8 * (columns[3:-1] - columns[1:-3]) - (columns[4:] - columns[:-4])
    return np.stack([x, y]) / 12


def edge_weight(I0: Float64, alpha: float, beta: float) -> Float64:
    """Return w = max(exp(-alpha (|grad G I0| / 255)^beta), EDGE_WEIGHT_MIN), G a Gaussian.

    Parameters
    ----------
    I0 : float64 array, (H, W)
        One level of the first frame, grey levels.
    alpha, beta : float
        `TVL1Params.edge_alpha` and `edge_beta`.

    Returns
    -------
    float64 array, (H, W)
        In [EDGE_WEIGHT_MIN, 1].

    Notes
    -----
    Source: Werlberger, Trobin, Pock, Wedel, Cremers, Bischof, "Anisotropic Huber-L1 optical flow",
    BMVC 2009, equation 5, of which this is the strength alone.
    """
    offsets = np.arange(-EDGE_BLUR_RADIUS, EDGE_BLUR_RADIUS + 1)
    kernel = np.exp(-(offsets**2) / (2 * EDGE_BLUR_SIGMA_PX**2))
    smooth = np.pad(I0, EDGE_BLUR_RADIUS, mode="edge")
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(smooth, len(kernel), axis=axis)
        smooth = windows @ (kernel / kernel.sum())
    x, y = centered_gradient(smooth)
    weight: Float64 = np.exp(-alpha * (np.hypot(x, y) / 255) ** beta)
    return np.maximum(weight, EDGE_WEIGHT_MIN)


def forward_gradient(f: Float64) -> Float64:
    """Return forward differences, zero on the last column (x) and row (y).

    Parameters
    ----------
    f : float64 array, (..., H, W)

    Returns
    -------
    float64 array, (..., 2, H, W)
        x then y.
    """
    x = np.diff(f, axis=-1, append=f[..., -1:])
    y = np.diff(f, axis=-2, append=f[..., -1:, :])
    return np.stack([x, y], axis=-3)


def divergence(p: Float64) -> Float64:
    """Return the backward differences of a vector field: minus the adjoint of the gradient.

    <forward_gradient(u), p> = -<u, divergence(p)> for every p.

    Parameters
    ----------
    p : float64 array, (..., 2, H, W)
        x then y.

    Returns
    -------
    float64 array, (..., H, W)

    Notes
    -----
    Source: Chambolle 2004, section 2. What p holds on the last column (x) and row (y) is
    ignored; there the solver's p is zero anyway.
    """
    x, y = p[..., 0, :, :].copy(), p[..., 1, :, :].copy()
    x[..., -1] = 0
    y[..., -1, :] = 0
    return np.diff(x, axis=-1, prepend=0) + np.diff(y, axis=-2, prepend=0)


def linearise(I0: Float64, I1_planes: Float64, u: Float64, params: TVL1Params) -> DataTerm:
    """Warp I1 and its gradient by u and linearise the residual there.

    Parameters
    ----------
    I0 : float64 array, (H, W)
    I1_planes : float64 array, (3, H, W)
        I1 and its centred differences, which are taken before the warp.
    u : float64 array, (2, H, W)
        The flow to linearise at, px; where a component is closer to a whole pixel than
        `warp_snap`, that.
    params : TVL1Params
        `warp_snap`, `bicubic_a`, and `border`: with "clamp" taps outside take the edge's value, with
        "off" a position outside [0, W - 1] x [0, H - 1] has no data term at all.

    Returns
    -------
    DataTerm

    Notes
    -----
    Source: IPOL 2013.26, Dual_TVL1_optic_flow; rho_c = I1w - I1wx u1 - I1wy u2 - I0.
    """
    height, width = I0.shape
    whole = np.rint(u)
    u = np.where(np.abs(u - whole) < params.warp_snap, whole, u)
    y, x = np.indices(I0.shape, dtype=np.float64) + u[::-1]
    I1w, I1wx, I1wy = sample_bicubic(I1_planes, x, y, params.bicubic_a)
    rho_c = I1w - I1wx * u[0] - I1wy * u[1] - I0
    gradient = np.stack([I1wx, I1wy])
    if params.border == "off":
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        gradient, rho_c = gradient * inside, rho_c * inside
    return DataTerm(gradient=gradient, grad=(gradient**2).sum(axis=0), rho_c=rho_c)


def threshold_step(u: Float64, data: DataTerm, l_t: float) -> Float64:
    """Return v: the minimiser of |u - v|^2 / (2 theta) + lambda |rho(v)| at each pixel.

    With g = grad I1(x + u0) and l_t = lambda theta::

        v = u + l_t g             where rho(u) < -l_t |g|^2
            u - l_t g             where rho(u) >  l_t |g|^2
            u - rho(u) g / |g|^2  elsewhere, and u where |g|^2 vanishes

    Parameters
    ----------
    u : float64 array, (2, H, W)
        px.
    data : DataTerm
    l_t : float
        lambda times theta.

    Returns
    -------
    float64 array, (2, H, W)
        px.

    Notes
    -----
    Source: Zach, Pock, Bischof 2007, proposition 3; the operator TH of IPOL 2013.26.
    """
    rho = data.rho_c + (data.gradient * u).sum(axis=0)
    limit = l_t * data.grad
    flat = data.grad <= GRAD_IS_ZERO
    exact = np.where(flat, 0, -rho / np.where(flat, 1, data.grad))
    factor = np.where(rho < -limit, l_t, np.where(rho > limit, -l_t, exact))
    return u + factor * data.gradient


def primal_step(v: Float64, p: Float64, theta: float) -> Float64:
    """Return u = v + theta div p (Zach, Pock, Bischof 2007, proposition 1).

    Parameters
    ----------
    v : float64 array, (2, H, W)
    p : float64 array, (2, 2, H, W)
        One vector field (x, y) for each component of u.
    theta : float

    Returns
    -------
    float64 array, (2, H, W)
    """
    return v + theta * divergence(p)


def dual_step(p: Float64, u: Float64, taut: float) -> Float64:
    """Return p' = (p + taut grad u) / (1 + taut |grad u|), each component of u by itself.

    Parameters
    ----------
    p : float64 array, (2, 2, H, W)
    u : float64 array, (2, H, W)
    taut : float
        tau / theta.

    Returns
    -------
    float64 array, (2, 2, H, W)
        |p'| < 1 wherever |p| < 1.

    Notes
    -----
    Source: Chambolle 2004, equation 9; IPOL 2013.26.
    """
    gradient = forward_gradient(u)
    length = np.hypot(gradient[:, 0], gradient[:, 1])
    return (p + taut * gradient) / (1 + taut * length)[:, None]


def projected_dual_step(p: Float64, u: Float64, taut: float, weight: Float64 | float) -> Float64:
    """Return p' = q / max(1, |q| / weight) with q = p + taut grad u, each component of u by itself.

    Parameters
    ----------
    p : float64 array, (2, 2, H, W)
    u : float64 array, (2, H, W)
    taut : float
        tau / theta.
    weight : float64 array, (H, W), or float
        Of the total variation, in (0, 1].

    Returns
    -------
    float64 array, (2, 2, H, W)
        |p'| <= weight.

    Notes
    -----
    Source: Chambolle, "Total variation minimization and a class of binary MRF models", 2005,
    section 3: the projected gradient.
    """
    q = p + taut * forward_gradient(u)
    length = np.hypot(q[:, 0], q[:, 1])
    return q / np.maximum(1, length / weight)[:, None]


def weighted_median(u: Float64, I0: Float64, params: TVL1Params) -> Float64:
    """Filter u by the median of its neighbours weighted by their likeness in I0.

    The weighted median is the least value of the window up to which the weights reach half their
    sum; neighbours outside the frame weigh nothing. With `weighted_median_spread` > 0 a pixel
    where neither component of u spreads over more than that within the window stays as it is.

    Parameters
    ----------
    u : float64 array, (2, H, W)
    I0 : float64 array, (H, W)
        This level of the first frame, grey levels.
    params : TVL1Params

    Returns
    -------
    float64 array, (2, H, W)

    Notes
    -----
    Source: Sun, Roth, Black, "Secrets of optical flow estimation and their principles", CVPR 2010,
    section 5: the non-local term, with I0 in place of colour and without its occlusion factor.
    """
    side = params.weighted_median
    guides, values = _windows(I0, side), _windows(u, side)
    inside = _windows(np.ones_like(I0), side, mode="constant")
    offsets = np.arange(side) - side // 2
    distance2 = (offsets[:, None] ** 2 + offsets**2).ravel()
    fall = ((guides - I0[..., None]) / params.weighted_median_grey) ** 2
    weights = inside * np.exp(-(fall + distance2 / params.weighted_median_px**2) / 2)
    order = np.argsort(values, axis=-1, kind="stable")
    total = np.cumsum(np.take_along_axis(np.broadcast_to(weights, values.shape), order, -1), axis=-1)
    first = np.argmax(total >= total[..., -1:] / 2, axis=-1)[..., None]
    filtered = np.take_along_axis(values, np.take_along_axis(order, first, -1), -1)[..., 0]
    spread = (values.max(axis=-1) - values.min(axis=-1)).max(axis=0)
    return np.where(spread > params.weighted_median_spread, filtered, u)


def _windows(planes: Float64, side: int, mode: Literal["edge", "constant"] = "edge") -> Float64:
    """Return the side^2 values about each pixel, (..., H, W, side^2)."""
    around = [(0, 0)] * (planes.ndim - 2) + [(side // 2, side // 2)] * 2
    padded = np.pad(planes, around, mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(-2, -1))
    return windows.reshape(*planes.shape, side * side)


def median_5x5(u: Float64) -> Float64:
    """Filter each plane by the median of 5x5 px; the border repeats the edge (cv2.medianBlur).

    Parameters
    ----------
    u : float64 array, (2, H, W)

    Returns
    -------
    float64 array, (2, H, W)
    """
    padded = np.pad(u, ((0, 0), (2, 2), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return np.partition(windows.reshape(*u.shape, 25), 12, axis=-1)[..., 12]


def has_converged(u: Float64, u_before: Float64, epsilon: float) -> bool:
    """Return whether sum |u - u_before|^2 <= epsilon^2 area; never with epsilon 0."""
    area = u.shape[-2] * u.shape[-1]
    return epsilon > 0 and bool(np.sum((u - u_before) ** 2) <= epsilon**2 * area)


BLOCK_PX = 16
"""Side of the blocks that may be still; those at the right and at the bottom may be less."""


def still_blocks(u: Float64, u_before: Float64, epsilon: float) -> NDArray[np.bool_]:
    """Return the pixels, (H, W), whose block changed by sum |u - u_before|^2 <= epsilon^2 area.

    Ours: `has_converged`, block by block.
    """
    change = np.sum((u - u_before) ** 2, axis=0)
    starts = [np.arange(0, side, BLOCK_PX) for side in change.shape]
    by_block = np.add.reduceat(np.add.reduceat(change, starts[0], axis=0), starts[1], axis=1)
    sides = [np.diff(np.append(at, side)) for at, side in zip(starts, change.shape, strict=True)]
    still = by_block <= epsilon**2 * np.outer(*sides)
    return np.repeat(np.repeat(still, sides[0], axis=0), sides[1], axis=1)
