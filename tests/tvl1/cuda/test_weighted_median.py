"""The weighted median's kernels on the host against its definition and the twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda.device import CudaDevice
from flowkit.tvl1.cuda.weighted_median import WeightedMedian
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.steps import weighted_median
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

PARAMS = TVL1Params(weighted_median=5, weighted_median_after="level")

# Of the sum of the weights: some 50 roundings of weights and sums in single precision.
ROUNDING = 4e-6


@pytest.fixture
def device(gpu: FakeGpu) -> CudaDevice:
    return cuda_device.open_device(0)


def made(shape: tuple[int, int], kind: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return grey values of three planes and the flow of two pairs."""
    rng, (height, width) = np.random.default_rng(5), shape
    frames = rng.uniform(0, 255, (3, *shape)).astype(np.float32)
    u = rng.normal(size=(2, 2, *shape)).astype(np.float32)
    if kind == "edges":
        frames[:, :, width // 2 :] *= 0.1
        u[..., height // 3 :, :] = 0.02 * u[..., height // 3 :, :] + 1.5
    elif kind == "flat":
        frames[...] = 77
        u = np.round(u)
    return frames, u


def filtered(
    device: CudaDevice, frames: NDArray[np.float32], u: NDArray[np.float32], params: TVL1Params
) -> NDArray[np.float32]:
    planes, flow = device.upload(np.array([[1, 0], [2, 1]], np.int32)), device.upload(u)
    result = device.empty(u.shape, np.float32)
    WeightedMedian(device, params).filter_level(device.upload(frames), planes, (flow, result), 0)
    device.faults.wait(device.event())
    values: NDArray[np.float32] = result.get()
    return values


def windows(image: NDArray[np.generic], side: int, outside: float) -> NDArray[np.float64]:
    padded = np.pad(image.astype(np.float64), side // 2, constant_values=outside)
    around = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return around.reshape(*image.shape, side * side)


def assert_is_weighted_median(
    result: NDArray[np.float32], u: NDArray[np.float32], I0: NDArray[np.float32], params: TVL1Params
) -> None:
    """Hold each value to the definition: it is the window's, and half the weights lie at or below it.

    Near half, rounding decides between two neighbouring values of the window, however far apart.
    """
    side = params.weighted_median
    offsets = np.arange(side) - side // 2
    fall = ((windows(I0, side, np.inf) - I0[..., None]) / params.weighted_median_grey) ** 2
    far = (offsets[:, None] ** 2 + offsets**2).ravel() / params.weighted_median_px**2
    weights = np.exp(-(fall + far) / 2)
    values, at, total = windows(u, side, np.nan), result[..., None], weights.sum(-1)
    assert (values == at).any(-1).all()
    assert ((weights * (values < at)).sum(-1) < total * (0.5 + ROUNDING)).all()
    assert ((weights * (values <= at)).sum(-1) >= total * (0.5 - ROUNDING)).all()


@pytest.mark.parametrize("kind", ["noise", "edges", "flat"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 40), (9, 33), (17, 31)])
@pytest.mark.parametrize("side", [5, 7])
def test_emulated_weighted_median_is_that_of_each_window(
    side: int, shape: tuple[int, int], kind: str, device: CudaDevice
) -> None:
    params = dataclasses.replace(PARAMS, weighted_median=side)  # type: ignore[arg-type]
    frames, u = made(shape, kind)
    result = filtered(device, frames, u, params)
    for pair, plane in enumerate((1, 2)):
        for component in range(2):
            assert_is_weighted_median(result[pair, component], u[pair, component], frames[plane], params)
        twin = weighted_median(u[pair].astype(np.float64), frames[plane].astype(np.float64), params)
        assert (result[pair] == twin).mean() > 0.999, "the twin's value but where half is nearly reached"


@pytest.mark.parametrize("spread", [0.2, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(2, 3), (19, 45)])
def test_emulated_pixels_where_the_flow_varies_little_stay(
    shape: tuple[int, int], spread: float, device: CudaDevice
) -> None:
    params = dataclasses.replace(PARAMS, weighted_median=7, weighted_median_spread=spread)
    frames, u = made(shape, "edges")
    result = filtered(device, frames, u, params)
    twins = [
        weighted_median(u[k].astype(np.float64), frames[k + 1].astype(np.float64), params) for k in (0, 1)
    ]
    np.testing.assert_array_equal(result, np.stack(twins).astype(np.float32))
    assert (result == u).mean() > (0.99 if spread == 100 else 0.2 if shape == (19, 45) else 0)


@pytest.mark.parametrize("unit", [0.01, 1e6])
def test_emulated_weights_that_fall_at_once_or_never_are_those_of_the_definition(
    unit: float, device: CudaDevice
) -> None:
    frames, u = made((9, 12), "noise")
    by_grey = dataclasses.replace(PARAMS, weighted_median_grey=unit)
    by_distance = dataclasses.replace(PARAMS, weighted_median_px=unit)
    if unit < 1:
        np.testing.assert_array_equal(filtered(device, frames, u, by_grey), u)
        np.testing.assert_array_equal(filtered(device, frames, u, by_distance), u)
    else:
        for params in (by_grey, by_distance):
            result = filtered(device, frames, u, params)
            assert_is_weighted_median(result[0, 0], u[0, 0], frames[1], params)


def test_emulated_weighted_median_of_a_warp_filters_the_pairs_that_took_part_in_it(
    device: CudaDevice,
) -> None:
    shape, (frames, flow) = (9, 33), made((9, 33), "edges")
    u = np.full((2, 4, 9 * 33, 2), np.nan, np.float32)
    buffers, ended = [0, 1, 0, 1], [0, 1, 2, 0]
    for pair, buffer in enumerate(buffers):
        u[buffer, pair] = flow[pair % 2].reshape(2, -1).T
    states = np.zeros((4, 5), np.int32)
    states[:, 1], states[:, 4] = buffers, ended
    planes, on_device = np.array([[1, 0], [2, 1]] * 2, np.int32), (device.upload(u), device.upload(states))
    WeightedMedian(device, PARAMS).filter_warp(device.upload(frames), device.upload(planes), on_device, 0)
    expected = filtered(device, frames, flow, PARAMS)
    device.faults.wait(device.event())
    after, new_states = (array.get() for array in on_device)
    assert new_states[:, 1].tolist() == [1, 0, 0, 0]
    assert not new_states[:, 3].any()
    assert new_states[:, 4].tolist() == [0, 2, 2, 0]
    for pair in range(4):
        assert np.isnan(after[1, 2]).all(), "a pair whose level ended in a warp before stays as it is"
        if pair != 2:
            got = after[1 - buffers[pair], pair].T.reshape(2, *shape)
            np.testing.assert_array_equal(got, expected[pair % 2])
