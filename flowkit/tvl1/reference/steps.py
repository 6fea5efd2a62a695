"""The equations of TV-L1 in float64 NumPy, one function each.

Symbols are those of IPOL 2013.26: u the flow, v its twin under the data term, p the dual
variable, rho the linearised residual; taut = tau / theta, l_t = lambda theta. A flow is
(2, H, W), u1 (right) then u2 (down), px; p is (2, 2, H, W), a vector field (x, y) for each
component of u.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.sampling import sample_bicubic
from flowkit.typing import Float64

GRAD_IS_ZERO = float(np.finfo(np.float32).eps)
"""Below this |grad I1|^2 a residual within the threshold moves nothing (OpenCV's value)."""


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
        The flow to linearise at, px.
    params : TVL1Params
        `bicubic_a`, and `border`: with "clamp" taps outside take the edge's value, with
        "off" a position outside [0, W - 1] x [0, H - 1] has no data term at all.

    Returns
    -------
    DataTerm

    Notes
    -----
    Source: IPOL 2013.26, Dual_TVL1_optic_flow; rho_c = I1w - I1wx u1 - I1wy u2 - I0.
    """
    height, width = I0.shape
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
