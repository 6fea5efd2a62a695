from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.steps import (
    DataTerm,
    centered_gradient,
    divergence,
    dual_step,
    forward_gradient,
    has_converged,
    linearise,
    median_5x5,
    normalize_jointly,
    primal_step,
    threshold_step,
)

RNG_SHAPES = [(1, 1), (1, 5), (4, 1), (6, 7)]


@pytest.mark.parametrize("shape", RNG_SHAPES)
def test_divergence_is_minus_the_adjoint_of_the_gradient(shape: tuple[int, int]) -> None:
    # Integers, so that the identity <grad u, p> = -<u, div p> holds exactly.
    rng = np.random.default_rng(0)
    u = rng.integers(-50, 50, shape).astype(np.float64)
    p = rng.integers(-50, 50, (2, *shape)).astype(np.float64)
    assert np.sum(forward_gradient(u) * p) == -np.sum(u * divergence(p))


def test_forward_gradient_ends_with_zero() -> None:
    gradient = forward_gradient(np.array([[1.0, 4.0], [2.0, 10.0]]))
    assert gradient[0].tolist() == [[3, 0], [8, 0]]
    assert gradient[1].tolist() == [[1, 6], [0, 0]]


def test_centered_gradient_halves_one_sided_differences_at_the_border() -> None:
    gradient = centered_gradient(np.array([[0.0, 2.0, 8.0], [10.0, 10.0, 10.0]]))
    assert gradient[0].tolist() == [[1, 4, 3], [0, 0, 0]]
    assert gradient[1].tolist() == [[5, 4, 1], [5, 4, 1]]


def data_term(gradient: tuple[float, float], rho_c: float) -> DataTerm:
    g = np.array(gradient).reshape(2, 1, 1)
    return DataTerm(gradient=g, grad=(g**2).sum(axis=0), rho_c=np.array([[rho_c]]))


@pytest.mark.parametrize(
    ("gradient", "rho_c", "expected"),
    [
        ((3.0, 4.0), -10.0, (0.3, 0.4)),  # rho < -l_t |g|^2: a full step along g
        ((3.0, 4.0), 10.0, (-0.3, -0.4)),  # rho > l_t |g|^2: a full step against g
        ((3.0, 4.0), 1.25, (-0.15, -0.2)),  # between: to where rho vanishes
        ((3.0, 4.0), 0.0, (0.0, 0.0)),
        ((0.0, 0.0), 5.0, (0.0, 0.0)),  # no gradient, no step
        ((1e-4, 0.0), 1e-12, (0.0, 0.0)),  # a gradient that is noise, within the threshold
    ],
)
def test_threshold_step_cases(
    gradient: tuple[float, float], rho_c: float, expected: tuple[float, float]
) -> None:
    v = threshold_step(np.zeros((2, 1, 1)), data_term(gradient, rho_c), l_t=0.1)
    np.testing.assert_allclose(v.ravel(), expected, rtol=0, atol=1e-15)


def test_threshold_step_minimises_its_energy() -> None:
    theta, lambda_ = 0.3, 0.15
    rng = np.random.default_rng(1)
    for _ in range(20):
        data = data_term((rng.normal(0, 20), rng.normal(0, 20)), rng.normal(0, 20))
        u = rng.normal(0, 1, (2, 1, 1))

        def energy(v: np.ndarray, u: np.ndarray = u, data: DataTerm = data) -> float:
            rho = data.rho_c + (data.gradient * v).sum(axis=0)
            return float(((u - v) ** 2).sum() / (2 * theta) + lambda_ * np.abs(rho).sum())

        best = threshold_step(u, data, lambda_ * theta)
        near = [
            energy(best + step * rng.normal(0, 1, (2, 1, 1)))
            for step in (1e-1, 1e-2, 1e-3)
            for _ in range(20)
        ]
        assert energy(best) <= min(near)


def test_primal_step_adds_theta_times_the_divergence() -> None:
    p = np.zeros((2, 2, 2, 2))
    p[0, 0, 0, 0] = 1.0  # x component for u1: +1 at its pixel, -1 at its right neighbour
    u = primal_step(np.zeros((2, 2, 2)), p, theta=0.3)
    assert u[0].tolist() == [[0.3, -0.3], [0, 0]]
    assert not u[1].any()


def test_dual_step_keeps_p_in_the_unit_ball_and_fixes_zero() -> None:
    rng = np.random.default_rng(2)
    p = np.zeros((2, 2, 5, 6))
    for _ in range(50):
        p = dual_step(p, rng.normal(0, 100, (2, 5, 6)), taut=0.25 / 0.3)
    assert np.hypot(p[:, 0], p[:, 1]).max() < 1
    assert not dual_step(np.zeros((2, 2, 5, 6)), np.full((2, 5, 6), 3.0), 0.8).any()


def test_dual_step_value() -> None:
    u = np.zeros((2, 2, 2))
    u[0, 0, 1], u[0, 1, 0] = 3.0, 4.0  # gradient (3, 4) at (0, 0): length 5
    p = dual_step(np.full((2, 2, 2, 2), 0.5), u, taut=2.0)
    np.testing.assert_allclose(p[0, :, 0, 0], [(0.5 + 6) / 11, (0.5 + 8) / 11], rtol=1e-15)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 5), (17, 23)])
def test_median_matches_cv2_exactly(shape: tuple[int, int]) -> None:
    u = np.random.default_rng(3).normal(0, 5, (2, *shape)).astype(np.float32)
    expected = np.stack([cv2.medianBlur(plane, 5).reshape(shape) for plane in u])
    assert np.array_equal(median_5x5(u.astype(np.float64)), expected)


def test_has_converged_compares_with_epsilon_squared_area() -> None:
    u = np.zeros((2, 4, 5))
    change = np.full((2, 4, 5), 0.01 / np.sqrt(2))  # sum is 0.01^2 x 20, up to rounding
    assert has_converged(u + 0.999 * change, u, 0.01)
    assert not has_converged(u + 1.001 * change, u, 0.01)


def test_epsilon_zero_never_converges() -> None:
    assert not has_converged(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), 0.0)


def test_normalisation_is_joint() -> None:
    a, b = normalize_jointly(np.array([[50.0, 100.0]]), np.array([[60.0, 150.0]]))
    np.testing.assert_allclose(a, [[0, 127.5]], rtol=1e-15)
    np.testing.assert_allclose(b, [[25.5, 255]], rtol=1e-15)


def test_normalisation_leaves_one_grey_value_alone() -> None:
    a, b = normalize_jointly(np.full((2, 2), 7.0), np.full((2, 2), 7.0))
    assert (a == 7).all()
    assert (b == 7).all()


def planes(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[None], centered_gradient(image)])


def test_the_residual_of_the_true_shift_of_a_ramp_is_zero() -> None:
    y, x = np.indices((9, 11), dtype=np.float64)
    I0, I1 = 3 * x + 5 * y, 3 * (x - 0.5) + 5 * (y - 0.25)
    u = np.stack([np.full(I0.shape, 0.5), np.full(I0.shape, 0.25)])
    data = linearise(I0, planes(I1), u, TVL1Params())
    rho = data.rho_c + (data.gradient * u).sum(axis=0)
    inside = np.s_[3:-3, 3:-3]  # no tap of a gradient at the border
    np.testing.assert_allclose(rho[inside], 0, atol=1e-12)
    np.testing.assert_allclose(data.gradient[0][inside], 3, rtol=1e-13)
    np.testing.assert_allclose(data.gradient[1][inside], 5, rtol=1e-13)
    np.testing.assert_allclose(data.grad[inside], 34, rtol=1e-13)


def test_border_off_has_no_data_term_outside() -> None:
    image = np.random.default_rng(4).uniform(0, 255, (5, 6))
    u = np.zeros((2, 5, 6))
    u[0, :, -1], u[1, 0, 0] = 0.01, -0.01  # just outside on the right, just outside above
    off = linearise(image, planes(image), u, TVL1Params(border="off"))
    clamp = linearise(image, planes(image), u, TVL1Params(border="clamp"))
    outside = np.zeros((5, 6), bool)
    outside[:, -1] = outside[0, 0] = True
    assert not off.grad[outside].any()
    assert not off.rho_c[outside].any()
    assert clamp.grad[outside].all()
    assert np.array_equal(off.grad[~outside], clamp.grad[~outside])
    assert np.array_equal(off.rho_c[~outside], clamp.rho_c[~outside])
