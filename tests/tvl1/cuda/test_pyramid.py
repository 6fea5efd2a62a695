"""Pyramids on an emulated GPU against the twin's, and the flow's way up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import pyramid as cuda_pyramid
from flowkit.tvl1.cuda.device import CudaDevice
from flowkit.tvl1.cuda.pyramid import Pyramids
from flowkit.tvl1.cuda.state import LevelState
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import build_pyramid, level_sizes, upsample_dual, upsample_flow
from flowkit.tvl1.reference.solver import prepare
from flowkit.tvl1.reference.steps import edge_weight
from tests.make.greys import greys
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

Waves = Callable[..., NDArray[np.float32]]

# Grey values up to 255, and flow up to 8 px, in single precision: some 30 roundings a level.
AGREEMENT_GREY = 3e-4
AGREEMENT_PX = 1e-5

PAIRS = np.array([[0, 1], [2, 1], [2, 2]], np.int32)
PLAIN = TVL1Params(nscales=3, pyramid="resize")


@pytest.fixture
def device(gpu: FakeGpu) -> CudaDevice:
    return cuda_device.open_device(0)


def build(
    device: CudaDevice, params: TVL1Params, frames: NDArray[np.generic], pairs: NDArray[np.int32] = PAIRS
) -> tuple[list[NDArray[np.float32]], NDArray[np.int32]]:
    height, width = frames.shape[1:]
    levels, planes = Pyramids(device, params, (height, width)).build(device.upload(frames), pairs)
    device.faults.wait(device.event())
    return [level.get() for level in levels], planes


def upsample(
    device: CudaDevice, params: TVL1Params, flow: NDArray[np.float32], size: tuple[int, int], level: int
) -> NDArray[np.float32]:
    pairs, on_device = len(flow), device.upload(flow.reshape(-1, *flow.shape[2:]))
    finer = Pyramids(device, params, size).upsample(LevelState(planes=on_device, pairs=pairs), level)
    device.faults.wait(device.event())
    assert finer.dual is None
    flows: NDArray[np.float32] = finer.flow.get()
    return flows


@pytest.mark.parametrize("size", [(45, 57), (1, 40)])
@pytest.mark.parametrize("preset", PRESETS)
def test_emulated_levels_are_the_twins_of_both_frames_of_each_pair(
    preset: str, size: tuple[int, int], device: CudaDevice
) -> None:
    params, frames = PRESETS[preset], greys(3, *size)
    levels, planes = build(device, params, frames)
    assert [level.shape[1:] for level in levels] == level_sizes(size, params)
    for pair, both in zip(PAIRS, planes, strict=True):
        images = prepare(frames[pair[0]], frames[pair[1]], params)
        for image, plane in zip(images, both, strict=True):
            for level, twin in zip(levels, build_pyramid(image, params), strict=True):
                np.testing.assert_allclose(level[plane], twin, rtol=0, atol=AGREEMENT_GREY)


# Of weights up to 1: where the image is flat, rounding makes gradients of some 1e-5 grey levels, and
# 3 (1e-5 / 255)^.8 is 3.5e-6.
AGREEMENT_WEIGHT = 5e-6


@pytest.mark.parametrize("size", [(45, 57), (1, 40), (2, 3), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 0.8), (10.0, 1.5)])
def test_emulated_edge_bounds_are_theta_times_the_twins_weights(
    alpha: float, beta: float, size: tuple[int, int], device: CudaDevice
) -> None:
    params = dataclasses.replace(PLAIN, dual="projected", edge_alpha=alpha, edge_beta=beta, theta=0.2)
    frames = greys(3, *size).astype(np.float32)
    frames[0, :, size[1] // 2 :] = 255 * (frames[0, :, size[1] // 2 :] > 100)
    pyramids = Pyramids(device, params, size)
    levels, planes = pyramids.build(device.upload(frames), PAIRS)
    for level, images in enumerate(levels):
        bounds = pyramids.edge_bounds(images, device.upload(planes), level)
        assert bounds is not None
        device.faults.wait(device.event())
        for got, (first, _) in zip(bounds.get(), planes, strict=True):
            twin = edge_weight(images.get()[first].astype(np.float64), alpha, beta)
            np.testing.assert_allclose(got, params.theta * twin, rtol=0, atol=AGREEMENT_WEIGHT)


def test_no_edges_need_no_bounds(device: CudaDevice) -> None:
    pyramids = Pyramids(device, dataclasses.replace(PLAIN, dual="projected"), (20, 30))
    assert pyramids.edge_bounds(device.zeros((1, 20, 30), np.float32), None, 0) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_emulated_lowest_level_is_the_frames_themselves(dtype: type[np.generic], device: CudaDevice) -> None:
    frames = greys(3, 25, 33)
    levels, _ = build(device, PLAIN, frames.astype(dtype))
    assert levels[0].dtype == np.float32
    np.testing.assert_array_equal(levels[0], frames)


def test_emulated_pairs_share_their_frames_planes(device: CudaDevice) -> None:
    levels, planes = build(device, PLAIN, greys(3, 25, 33))
    np.testing.assert_array_equal(planes, PAIRS)
    assert {len(level) for level in levels} == {3}


def test_emulated_frames_scaled_jointly_have_planes_for_each_pair_from_0_to_255(device: CudaDevice) -> None:
    frames = np.stack([grey // (2 + k) + 20 * k for k, grey in enumerate(greys(3, 25, 33))])
    levels, planes = build(device, dataclasses.replace(PLAIN, normalize=True), frames)
    assert planes.tolist() == [[0, 1], [2, 3], [4, 5]]
    for pair, both in zip(PAIRS, levels[0][planes], strict=True):
        assert both.min() == 0
        # One rounding of 255 / range.
        assert both.max() == pytest.approx(255, abs=2e-5)
        # Jointly: the order of grey values of the pair's two frames is kept.
        order = np.argsort(frames[pair], axis=None, kind="stable")
        assert (np.diff(both.reshape(-1)[order]) >= 0).all()


def test_emulated_constant_pair_scaled_jointly_stays_as_it_is(device: CudaDevice) -> None:
    frames = np.full((2, 25, 33), 7, np.uint8)
    pairs = np.array([[0, 1]], np.int32)
    levels, _ = build(device, dataclasses.replace(PLAIN, normalize=True), frames, pairs)
    for level in levels:
        np.testing.assert_array_equal(level, np.float32(7))


@pytest.mark.parametrize("pyramid", ["resize", "pyrdown", "gaussian"])
def test_emulated_flow_is_brought_up_as_by_the_twin(pyramid: str, device: CudaDevice) -> None:
    step = 0.5 if pyramid == "pyrdown" else 0.7
    params = TVL1Params(nscales=3, pyramid=pyramid, scale_step=step)  # type: ignore[arg-type]
    size = (70, 75)
    sizes = level_sizes(size, params)
    assert len(sizes) == 3
    for level in (0, 1):
        flow = np.random.default_rng(level).normal(size=(3, 2, *sizes[level + 1])).astype(np.float32)
        finer = upsample(device, params, flow, size, level)
        for got, coarse in zip(finer, flow, strict=True):
            twin = upsample_flow(coarse.astype(np.float64), sizes[level], params)
            np.testing.assert_allclose(got, twin, rtol=0, atol=AGREEMENT_PX)


@pytest.mark.parametrize("size", [(70, 75), (33, 40)])
@pytest.mark.parametrize("pyramid", ["resize", "pyrdown", "gaussian"])
def test_emulated_dual_variable_is_brought_up_with_the_flow_as_by_the_twin(
    pyramid: str, size: tuple[int, int], device: CudaDevice
) -> None:
    step = 0.5 if pyramid == "pyrdown" else 0.7
    params = TVL1Params(nscales=2, pyramid=pyramid, scale_step=step)  # type: ignore[arg-type]
    pyramids, rng = Pyramids(device, params, size), np.random.default_rng(0)
    u, q = (rng.normal(size=(3, count, *pyramids.sizes[1])).astype(np.float32) for count in (2, 4))
    planes = np.concatenate([each.reshape(-1, *pyramids.sizes[1]) for each in (u, q)])
    finer = pyramids.upsample(LevelState(planes=device.upload(planes), pairs=3), 0)
    device.faults.wait(device.event())
    for pair in range(3):
        twin = upsample_flow(u[pair].astype(np.float64), size, params)
        np.testing.assert_allclose(finer.flow[pair].get(), twin, rtol=0, atol=AGREEMENT_PX)
        twin = upsample_dual(q[pair].reshape(2, 2, *pyramids.sizes[1]).astype(np.float64), size, params)
        assert finer.dual is not None
        got = finer.dual[pair].get().reshape(2, 2, *size)
        np.testing.assert_allclose(got, twin, rtol=0, atol=AGREEMENT_PX)
        assert not got[:, 0, :, -1].any()
        assert not got[:, 1, -1].any()


def test_emulated_constant_flow_is_scaled_by_the_step_alone(device: CudaDevice) -> None:
    params = dataclasses.replace(PLAIN, scale_step=0.5)
    flow = np.empty((1, 2, *level_sizes((40, 56), params)[1]), np.float32)
    flow[:, 0], flow[:, 1] = 1.5, -0.25
    finer = upsample(device, params, flow, (40, 56), 0)
    np.testing.assert_array_equal(finer[0, 0], np.full((40, 56), 3, np.float32))
    np.testing.assert_array_equal(finer[0, 1], np.full((40, 56), -0.5, np.float32))


def test_emulated_planes_beyond_one_launchs_grid_are_resampled_too(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = greys(8, 25, 33)
    expected, _ = build(device, PLAIN, frames)
    monkeypatch.setattr(cuda_pyramid, "MOST_PLANES", 3)
    levels, _ = build(device, PLAIN, frames)
    assert len(levels) == 3
    for level, whole in zip(levels, expected, strict=True):
        np.testing.assert_array_equal(level, whole)
