from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from flowkit.datasets import transform_flow, transform_frames, transforms
from flowkit.errors import InvalidParameterError
from flowkit.quantize import dequantize_u8, quantize_u8

HEIGHT, WIDTH = 40, 60
SIZES = [(20, 30), (13, 22), (80, 90), (20, 90), (40, 60)]
BOUND = 20.0


@pytest.fixture
def flow() -> Any:
    """float32 (2, 6, 40, 60): three fields of two segments, px in multiples of 1/8, many of them 0."""
    rng = np.random.default_rng(1)
    return rng.integers(-80, 81, (2, 6, HEIGHT, WIDTH)).astype(np.float32) / 8


@pytest.fixture
def frames() -> Any:
    return np.random.default_rng(2).integers(0, 256, (4, 3, HEIGHT, WIDTH), np.uint8)


def tensors(array: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(array))


@pytest.mark.parametrize("size", SIZES)
def test_an_even_motion_follows_width_and_height(size: tuple[int, int]) -> None:
    moving = np.empty((4, HEIGHT, WIDTH), np.float32)
    moving[0::2], moving[1::2] = 6.0, -2.0
    made = transform_flow(moving, size=size)
    assert made.shape == (4, *size)
    # float32 of a few operations on 6 px.
    assert np.abs(made[0::2] - 6 * size[1] / WIDTH).max() < 1e-5
    assert np.abs(made[1::2] + 2 * size[0] / HEIGHT).max() < 1e-5


def test_a_point_that_flow_leads_to_is_led_to_in_the_resized_image() -> None:
    """A zoom about the centre, u = x / 10, is the same function of position at every size."""
    x = np.arange(WIDTH, dtype=np.float32) + 0.5
    zoom = np.stack([np.tile(x / 10, (HEIGHT, 1)), np.zeros((HEIGHT, WIDTH), np.float32)])
    for width in (30, 120):
        made = transform_flow(zoom, size=(HEIGHT * width // WIDTH, width))
        inside = slice(2, -2)  # the border is repeated where the image grows
        expected = (np.arange(width) + 0.5) / 10
        assert np.abs(made[0, :, inside] - expected[inside]).max() < 1e-4


def test_the_shorter_side_keeps_the_aspect() -> None:
    assert transforms.resized_size((240, 320), 256) == (256, 341)
    assert transforms.resized_size((320, 240), 256) == (341, 256)
    assert transforms.resized_size((480, 853), 256) == (256, 455)
    assert transforms.resized_size((480, 853), (7, 5)) == (7, 5)


def test_a_mirrored_field_moves_the_other_way(flow: Any) -> None:
    before = flow.copy()
    made = transform_flow(flow, flip=True)
    assert np.array_equal(made[:, 0::2], -flow[:, 0::2, :, ::-1])
    assert np.array_equal(made[:, 1::2], flow[:, 1::2, :, ::-1])
    assert np.array_equal(transform_flow(made, flip=True), flow)
    assert np.array_equal(flow, before)


def test_mirrored_codes_decode_to_mirrored_flow(flow: Any) -> None:
    codes, _ = quantize_u8(flow, bound_px=BOUND)
    made = transform_flow(codes, flip=True)
    assert np.array_equal(made[:, 0::2], 255 - codes[:, 0::2, :, ::-1])
    decoded = dequantize_u8(codes, bound_px=BOUND)
    # The table of decoded codes is float32: its two halves are opposite to its last bit, 2e-6 at 20 px.
    opposite = transform_flow(decoded, flip=True)
    assert np.abs(dequantize_u8(made, bound_px=BOUND) - opposite).max() < 4e-6
    assert np.array_equal(quantize_u8(opposite, bound_px=BOUND)[0], made)


def test_mirrored_codes_are_those_of_mirrored_flow_but_half_way_between_two(flow: Any) -> None:
    codes, _ = quantize_u8(flow, bound_px=BOUND)
    made = transform_flow(codes, flip=True).astype(int)
    encoded = quantize_u8(transform_flow(flow, flip=True), bound_px=BOUND)[0].astype(int)
    half_way = transform_flow(flow, flip=True).astype(np.float64) * (255 / 40) % 1 == 0
    half_way[:, 1::2] = False
    assert half_way.any()
    assert np.array_equal(made[~half_way], encoded[~half_way])
    assert (np.abs(made - encoded)[half_way] == 1).all()
    still = np.zeros((2, 1, 1), np.float32)
    assert transform_flow(quantize_u8(still, bound_px=BOUND)[0], flip=True).ravel().tolist() == [127, 128]


@pytest.mark.parametrize("size", SIZES)
def test_resized_codes_are_within_a_code_of_resized_flow(flow: Any, size: tuple[int, int]) -> None:
    codes, _ = quantize_u8(flow, bound_px=BOUND)
    made = dequantize_u8(transform_flow(codes, size=size), bound_px=BOUND)
    wanted = np.clip(transform_flow(flow, size=size), -BOUND, BOUND)
    # Half a code of the stored flow, as much larger as the flow is, and half a code of the result.
    ratio = max(1.0, size[0] / HEIGHT, size[1] / WIDTH)
    assert np.abs(made - wanted).max() <= (1 + ratio) * 20 / 255 + 1e-4


def test_flow_beyond_the_bound_is_clipped_and_never_wraps() -> None:
    codes = np.full((2, 8, 8), 250, np.uint8)
    assert (transform_flow(codes, size=(16, 16)) == 255).all()
    assert (transform_flow(255 - codes, size=(16, 16)) == 0).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_codes_with_a_scale_are_mirrored_exactly_and_not_resized(flow: Any, dtype: Any) -> None:
    codes = (flow * 8).astype(dtype)
    assert np.array_equal(transform_flow(codes, flip=True) / np.float32(8), transform_flow(flow, flip=True))
    assert transform_flow(codes, size=(HEIGHT, WIDTH)) is codes
    with pytest.raises(InvalidParameterError, match=r"take px = codes \* scale, or resize="):
        transform_flow(codes, size=20)


def test_the_order_is_resize_crop_mirror(flow: Any, frames: Any) -> None:
    box = (3, 5, 10, 12)
    made = transform_flow(flow, size=20, crop=box, flip=True)
    resized = transform_flow(flow, size=20)
    assert np.array_equal(made, transform_flow(resized[..., 3:13, 5:17], flip=True))
    image = transform_frames(frames, size=20, crop=box, flip=True)
    assert np.array_equal(image, transform_frames(frames, size=20)[..., 3:13, 5:17][..., ::-1])


@pytest.mark.parametrize("size", SIZES)
def test_frames_are_resized_as_opencv_does(frames: Any, size: tuple[int, int]) -> None:
    shrinks = size[0] <= HEIGHT and size[1] <= WIDTH
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    last = np.moveaxis(frames, 1, -1)
    expected = np.stack([cv2.resize(np.ascontiguousarray(k), size[::-1], interpolation=method) for k in last])
    made = transform_frames(last, size=size, channels_last=True)
    assert np.array_equal(made, expected)
    assert np.array_equal(transform_frames(frames, size=size), np.moveaxis(expected, -1, 1))
    grey = transform_frames(frames[:, :1], size=size)
    assert grey.shape == (4, 1, *size)


@pytest.mark.parametrize("size", [*SIZES, 25])
def test_tensors_give_what_arrays_give(flow: Any, frames: Any, size: Any) -> None:
    torch = pytest.importorskip("torch")
    changes: dict[str, Any] = {"size": size, "crop": (1, 2, 12, 15), "flip": True}
    codes, _ = quantize_u8(flow, bound_px=BOUND)
    for array in (flow, codes, flow.astype(np.float64)):
        made = transform_flow(tensors(array), **changes)
        assert np.array_equal(made.numpy(), transform_flow(array, **changes))
    assert np.array_equal(transform_frames(tensors(frames), **changes), transform_frames(frames, **changes))
    signed = transform_flow(tensors((flow * 8).astype(np.int8)), flip=True)
    assert np.array_equal(signed.numpy(), transform_flow((flow * 8).astype(np.int8), flip=True))
    for dtype in (torch.float16, torch.bfloat16):
        half = transform_flow(tensors(flow).to(dtype), **changes)
        assert half.dtype == transform_frames(tensors(frames).to(dtype), **changes).dtype == dtype
        # Of numbers with 8 bits, up to 20 px.
        assert np.abs(half.float().numpy() - transform_flow(flow, **changes)).max() < 0.15


@pytest.mark.parametrize("size", SIZES)
def test_the_products_of_a_device_give_what_opencv_gives(
    flow: Any, frames: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, image = transform_flow(flow, size=size), transform_frames(frames, size=size)
    pytest.importorskip("torch")
    monkeypatch.setattr(transforms, "_on_host", lambda array: isinstance(array, np.ndarray))
    # float32 sums of 30 px and less, in another order.
    assert np.abs(transform_flow(tensors(flow), size=size).numpy() - expected).max() < 1e-4
    made = transform_frames(tensors(frames), size=size).numpy()
    assert np.abs(made.astype(int) - image).max() <= 1  # OpenCV's uint8 weights have 11 bits


def test_nothing_asked_for_is_a_view(flow: Any, frames: Any) -> None:
    assert transform_flow(flow) is flow
    assert np.shares_memory(transform_flow(flow, crop=(0, 0, 8, 8)), flow)
    assert np.shares_memory(transform_frames(frames, crop=(0, 0, 8, 8)), frames)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, r"size must be an integer >= 1 px, or \(height, width\), got 0"),
        ({"size": (8, 2.5)}, "the width of size must be an integer >= 1 px, got 2.5"),
        ({"size": (8, 8, 8)}, "size must be an integer"),
        ({"crop": (0, 0, 41, 8)}, r"crop must be \(top, left, height, width\) within 40 rows and 60 columns"),
        ({"crop": (-1, 0, 8, 8)}, "crop must be"),
        ({"crop": (0, 0, 8, 0)}, "crop must be"),
    ],
)
def test_impossible_sizes_and_crops_are_named(
    flow: Any, frames: Any, changes: dict[str, Any], message: str
) -> None:
    for call, array in ((transform_flow, flow), (transform_frames, frames)):
        with pytest.raises(InvalidParameterError, match=message):
            call(array, **changes)


def test_other_arrays_are_refused(flow: Any, frames: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"flow must be \(..., 2 L, H, W\), got \(2, 5, 40, 60\)"):
        transform_flow(flow[:, :5])
    with pytest.raises(InvalidParameterError, match="flow must be floating point, uint8 or signed"):
        transform_flow(flow.astype(np.uint16))
    with pytest.raises(InvalidParameterError, match="frames must be uint8 or floating point, got 'int64'"):
        transform_frames(frames.astype(np.int64))
    with pytest.raises(InvalidParameterError, match=r"frames must be \(..., H, W, C\), got \(40, 60\)"):
        transform_frames(frames[0, 0], channels_last=True)
