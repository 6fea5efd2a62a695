"""Crops, flips and codes, against cv2, NumPy and TSN's own numbers."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import cv2
import numpy as np
import torch

from flowkit.errors import InvalidParameterError
from flowkit.quantize import quantize_u8
from gating.config import AugmentConfig
from gating.data.augment import (
    Crops,
    draw_crops,
    evaluation_crops,
    flow_codes,
    flow_input,
    resample,
    rgb_input,
)
from gating.models.backbones import InputSpec, build_backbone

PLAIN = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def whole(size: tuple[int, int], *flips: bool) -> Crops:
    box = torch.tensor([0, 0, *size])
    return Crops(box.expand(len(flips), 4), torch.tensor(flips))


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_codes_are_tsns_and_zero_is_128() -> None:
    flow = (random(1, 2, 4, 5, 6) - 0.5) * 60
    flow[0, 0, 0, 0, 0] = 0
    codes = flow_codes(flow, torch.ones(1, 2, 4, 1, 1), bound_px=20.0)
    expected, _ = quantize_u8(flow.numpy(), bound_px=20.0)
    # float32 here, double there: a value at a half may round to the other side.
    assert float((codes - torch.from_numpy(expected).float()).abs().max()) <= 1
    assert float((codes != torch.from_numpy(expected)).float().mean()) < 0.02
    assert float(codes[0, 0, 0, 0, 0]) == 128
    assert (float(codes.min()), float(codes.max())) == (0, 255)


def test_stored_codes_are_scaled_field_by_field() -> None:
    stored = torch.full((1, 1, 4, 1, 1), 8, dtype=torch.int8)
    scale = torch.tensor([0.125, 0.125, 0.25, 0.25]).view(1, 1, 4, 1, 1)
    codes = flow_codes(stored, scale, bound_px=20.0)
    # 1 px for both components of the first field, 2 px of the second.
    assert codes.flatten().tolist() == [134, 134, 140, 140]


def test_tsns_own_codes_come_back_as_they_were() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(1, 1, 2, 8, 16)
    scale = torch.full((1, 1, 2, 1, 1), 40 / 255)
    assert torch.equal(flow_codes(codes, scale, bound_px=20.0, offset_px=-20.0), codes.float())


def test_a_crop_at_its_own_size_is_that_crop() -> None:
    images = random(2, 3, 20, 30)
    crops = Crops(torch.tensor([[0, 0, 12, 12], [8, 18, 12, 12]]), torch.tensor([False, False]))
    cut = resample(images, crops, 12)
    # Positions are whole up to float32 rounding of the grid, 1e-5 px; levels of order 1.
    torch.testing.assert_close(cut[0], images[0, :, :12, :12], rtol=0, atol=1e-4)
    torch.testing.assert_close(cut[1], images[1, :, 8:, 18:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("high", "wide"), [(13, 13), (9, 17), (24, 11)])
def test_resizing_is_cv2s_of_the_crop_alone(high: int, wide: int) -> None:
    image = random(1, 1, 30, 40)
    crops = Crops(torch.tensor([[3, 5, high, wide]]), torch.tensor([False]))
    ours = resample(image, crops, 16)[0, 0].numpy()
    cut = np.ascontiguousarray(image[0, 0, 3 : 3 + high, 5 : 5 + wide].numpy())
    # cv2 keeps weights of 1/2048 for float images; levels of order 1.
    np.testing.assert_allclose(ours, cv2.resize(cut, (16, 16), interpolation=cv2.INTER_LINEAR), atol=1e-3)


def test_nothing_outside_of_the_crop_is_read() -> None:
    image = torch.full((1, 1, 20, 20), 1e9)
    image[:, :, 5:12, 6:13] = 1.0
    crops = Crops(torch.tensor([[5, 6, 7, 7]]), torch.tensor([True]))
    # A position that float32 puts 1e-6 px outside would read 1e3 of the 1e9 around.
    assert float(resample(image, crops, 16).sub(1).abs().max()) < 1e4


def test_a_flip_mirrors_both_modalities_and_turns_x_flow_alone() -> None:
    frames = (random(1, 2, 3, 16, 16) * 255).to(torch.uint8)
    codes = (random(1, 2, 4, 16, 16) * 255).round()
    mirrored, plain = whole((16, 16), True), whole((16, 16), False)
    rgb = rgb_input(frames, mirrored, PLAIN, size=16)
    flow = flow_input(codes, mirrored, PLAIN, size=16)
    # Levels of 255 and positions within 1e-5 px: 3e-3.
    level = 1e-2
    torch.testing.assert_close(rgb, rgb_input(frames, plain, PLAIN, size=16).flip(-1), rtol=0, atol=level)
    torch.testing.assert_close(flow[:, :, 0::2] + 128, (255 - codes[:, :, 0::2]).flip(-1), rtol=0, atol=level)
    torch.testing.assert_close(flow[:, :, 1::2] + 128, codes[:, :, 1::2].flip(-1), rtol=0, atol=level)


def test_clips_of_one_batch_flip_each_on_its_own() -> None:
    codes = torch.full((2, 1, 2, 8, 8), 200.0)
    flow = flow_input(codes, whole((8, 8), False, True), PLAIN, size=8) + 128
    assert flow[:, 0, :, 0, 0].round().tolist() == [[200, 200], [55, 200]]


def test_pixels_are_normalised_as_the_backbone_wants() -> None:
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(1, 1, 3, 8, 8)
    caffe = rgb_input(frames, whole((8, 8), False), build_backbone("bn_inception").inputs, size=8)
    # Blue first: 30 - 104, 20 - 117, 10 - 123.
    torch.testing.assert_close(caffe[0, 0, :, 0, 0], torch.tensor([-74.0, -97.0, -113.0]))
    lite = rgb_input(frames, whole((8, 8), False), build_backbone("efficientnet_lite0").inputs, size=8)
    torch.testing.assert_close(lite[0, 0, :, 0, 0], (torch.tensor([10.0, 20, 30]) - 127) / 128)
    flow = flow_input(torch.full((1, 1, 2, 8, 8), 192.0), whole((8, 8), False), lite_spec(), size=8)
    torch.testing.assert_close(flow, torch.full((1, 1, 2, 8, 8), 0.5))


def lite_spec() -> InputSpec:
    return build_backbone("efficientnet_lite0").inputs


def test_crops_are_tsns_sizes_and_positions() -> None:
    crops = draw_crops(2000, (256, 340), AugmentConfig(), torch.Generator().manual_seed(0))
    sizes = {(int(high), int(wide)) for _, _, high, wide in crops.boxes.tolist()}
    # 256, 224, 192 and 168 px, height and width at most one step apart.
    sides = [256, 224, 192, 168]
    assert sizes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    positions = {tuple(box[:2]) for box in crops.boxes.tolist() if tuple(box[2:]) == (224, 224)}
    # Quarters of 32 px down and of 116 px to the right: the thirteen positions of TSN.
    assert positions == {
        *((0, 0), (0, 116), (32, 0), (32, 116), (16, 58)),
        *((16, 0), (16, 116), (32, 58), (0, 58)),
        *((8, 29), (8, 87), (24, 29), (24, 87)),
    }
    # 2000 coins: .5 with a deviation of .011.
    assert abs(float(crops.flips.float().mean()) - 0.5) < 0.05


def test_the_generator_decides_all() -> None:
    config = AugmentConfig(size=32)
    one, two = (draw_crops(8, (40, 50), config, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one.boxes, two.boxes)
    assert torch.equal(one.flips, two.flips)
    other = draw_crops(8, (40, 50), config, torch.Generator().manual_seed(8))
    assert not torch.equal(one.boxes, other.boxes)


@pytest.mark.parametrize("size", [(56, 56), (57, 90), (8, 200)])
def test_crops_stay_inside_and_flips_can_be_off(size: tuple[int, int]) -> None:
    config = AugmentConfig(size=58, flip=False)
    crops = draw_crops(200, size, config, torch.Generator().manual_seed(1))
    top, left, high, wide = crops.boxes.unbind(1)
    assert int(top.min()) >= 0
    assert int(left.min()) >= 0
    assert int((top + high).max()) <= size[0]
    assert int((left + wide).max()) <= size[1]
    assert not bool(crops.flips.any())


def test_evaluation_takes_the_centre_or_ten_of_tsns_positions() -> None:
    config = AugmentConfig()
    (centre,) = evaluation_crops(3, (256, 340), config, 1)
    assert centre.boxes.tolist() == [[16, 58, 224, 224]] * 3
    five = evaluation_crops(1, (256, 340), config, 5)
    assert [crop.boxes[0, :2].tolist() for crop in five] == [[0, 0], [0, 116], [32, 0], [32, 116], [16, 58]]
    ten = evaluation_crops(1, (256, 340), config, 10)
    assert [bool(crop.flips) for crop in ten] == [False] * 5 + [True] * 5
    assert [crop.boxes.tolist() for crop in ten[5:]] == [crop.boxes.tolist() for crop in five]
    with pytest.raises(InvalidParameterError, match="crops must be 1, 5 or 10, got 3"):
        evaluation_crops(1, (256, 340), config, 3)
