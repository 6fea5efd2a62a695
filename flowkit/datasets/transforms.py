"""Resize, crop and mirror flow and frames, as NumPy arrays or PyTorch's tensors.

Flow is no image: resized, u grows with the width and v with the height; mirrored, u changes its sign.
A crop, a size or a flip of these functions means the same for frames, so that both stay aligned.

Tensors are changed by their own methods: this module does not import torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.frames import area_or_linear, resize
from flowkit.quantize import U8_LEVELS
from flowkit.typing import Flow, UInt8
from flowkit.validate import check_integer, check_that

ArrayT = TypeVar("ArrayT")
"""A NumPy array or a PyTorch tensor."""
Size: TypeAlias = int | tuple[int, int]
"""(height, width) px, or the length of the shorter side, px, with which the other keeps the aspect."""
Box: TypeAlias = tuple[int, int, int, int]
"""(top, left, height, width), px."""


class Geometry(NamedTuple):
    """Size, crop and flip of one clip, as `transform_flow` and `transform_frames` take them."""

    size: tuple[int, int] | None
    crop: Box | None
    flip: bool

    def window(self) -> tuple[slice, slice] | None:
        """Return rows and columns if nothing but a crop is asked for: a reader's quick way, unchecked."""
        if self.size is not None or self.flip:
            return None
        if self.crop is None:
            return slice(None), slice(None)
        top, left, height, width = self.crop
        return slice(top, top + height), slice(left, left + width)

    def of_flow(self, flow: Flow) -> Flow:
        """Return flow, (2, H, W), transformed."""
        return transform_flow(flow, size=self.size, crop=self.crop, flip=self.flip)

    def of_frame(self, frame: UInt8) -> UInt8:
        """Return a frame, (H, W, 3), transformed."""
        return transform_frames(frame, size=self.size, crop=self.crop, flip=self.flip, channels_last=True)


def transform_flow(
    flow: ArrayT, *, size: Size | None = None, crop: Box | None = None, flip: bool = False
) -> ArrayT:
    """Resize flow, then crop it, then mirror it left to right.

    Parameters
    ----------
    flow
        (..., 2 L, H, W), u and v of each field in turn. Floating point: px. uint8: TSN's codes, of which c
        stands for a multiple of c - 127.5 whatever the bound, as of forms `tsn`, and `codes` of a store of
        JPEGs. Signed integers: codes of other stores, which have a scale beside them and are cropped and
        mirrored only.
    size
        (height, width), or the shorter side: u is multiplied by the ratio of the widths, v by that of the
        heights. Averages areas where neither side grows, else linear, as `flowkit extract` resizes frames.
    crop
        (top, left, height, width), px of the resized flow.
    flip
        u becomes -u, of TSN's codes 255 - u; v is moved only.

    Returns
    -------
    array or tensor
        Of flow's type, dtype and device; the input stays as it is, and a crop alone is a view of it. uint8
        codes are rounded half to even and clipped to [0, 255].

    Raises
    ------
    InvalidParameterError
        `flow` has an odd number of planes, or another dtype; `size` with signed codes; an impossible size
        or crop.

    Notes
    -----
    255 - code decodes to the exact opposite of what `code` does, and is what TSN's and mmaction2's loaders
    do. Flow that is mirrored before it is encoded, as `ClipSamples(flip=...)` does, has the same codes but
    where it is half way between two: zero stays 128 there, and becomes 127 here.
    """
    array: Any = flow
    planes = array.shape[-3] if array.ndim > 2 else 0
    check_that("flow", tuple(array.shape), array.ndim > 2 and planes % 2 == 0, "(..., 2 L, H, W)")
    kind = _kind(array)
    check_that("flow", kind, kind != "unknown", "floating point, uint8 or signed integers")
    if size is not None:
        array = _resized_flow(array, resized_size((array.shape[-2], array.shape[-1]), size), kind)
    array = _cropped(array, crop)
    made: ArrayT = _mirrored_flow(array, kind) if flip else array
    return made


def transform_frames(
    frames: ArrayT,
    *,
    size: Size | None = None,
    crop: Box | None = None,
    flip: bool = False,
    channels_last: bool = False,
) -> ArrayT:
    """Resize frames, then crop them, then mirror them left to right.

    Parameters
    ----------
    frames
        uint8 or floating point (..., C, H, W), such as `rgb` of an item of `ClipDataset`.
    size, crop, flip
        As of `transform_flow`.
    channels_last
        The frames are (..., H, W, C), such as those of `Clip.frames`.

    Returns
    -------
    array or tensor
        Of the frames' type, dtype and device; a view of the input where nothing is resized or mirrored.
        On a GPU, uint8 may be one level off what the CPU makes.

    Raises
    ------
    InvalidParameterError
        The frames have another dtype or fewer axes; an impossible size or crop.
    """
    array: Any = frames
    axes = "(..., H, W, C)" if channels_last else "(..., C, H, W)"
    check_that("frames", tuple(array.shape), array.ndim > 2, axes)
    check_that("frames", str(array.dtype), _kind(array) in ("float", "uint8"), "uint8 or floating point")
    if channels_last:
        array = _channels_first(array)
    if size is not None:
        array = _resized_frames(array, resized_size((array.shape[-2], array.shape[-1]), size))
    array = _cropped(array, crop)
    if flip:
        array = _mirrored(array)
    made: ArrayT = _channels_last(array) if channels_last else array
    return made


def resized_size(stored: tuple[int, int], size: Size) -> tuple[int, int]:
    """Return the (height, width) that images of (height, width) `stored` are resized to, px.

    With the shorter side alone, the longer one rounds to the nearest pixel, halves up.

    Raises
    ------
    InvalidParameterError
        `size` is no positive integer and no pair of them.
    """
    if isinstance(size, tuple) and len(size) == 2:
        for name, pixels in zip(("height", "width"), size, strict=True):
            check_integer(f"the {name} of size", pixels, 1, unit="px")
        return size
    check_integer("size", size, 1, unit="px, or (height, width)")
    short = min(stored)
    height, width = ((2 * side * int(size) + short) // (2 * short) for side in stored)
    return height, width


def _kind(array: Any) -> str:
    """Return `float`, `uint8`, `signed` or `unknown`."""
    name = array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
    if name == "uint8":
        return "uint8"
    if name.startswith(("float", "bfloat")):
        return "float"
    return "signed" if name.startswith("int") else "unknown"


def _resized_flow(flow: Any, size: tuple[int, int], kind: str) -> Any:
    height, width = flow.shape[-2:]
    if size == (height, width):
        return flow
    if kind == "signed":
        raise InvalidParameterError(
            f"flow of {flow.dtype} codes cannot be resized without its scale; take px = codes * scale, "
            "or resize= of ClipSamples and ClipDataset, which read any form"
        )
    made = _resized(_floating(flow), size)
    zero = U8_LEVELS / 2 if kind == "uint8" else 0.0
    for first, ratio in ((0, size[1] / width), (1, size[0] / height)):
        component = made[..., first::2, :, :]
        component -= zero
        component *= ratio
        component += zero
    return _like(made, flow)


def _resized_frames(frames: Any, size: tuple[int, int]) -> Any:
    if size == tuple(frames.shape[-2:]):
        return frames
    if not _on_host(frames):
        return _like(_resized(_floating(frames), size), frames)
    # One image each, in the memory order of a store's frames.
    images = _channels_last(_numpy(frames if _kind(frames) == "uint8" else _floating(frames)))
    back = _channels_first(_each_resized(images, size, axes=3))
    return _like(back if isinstance(frames, np.ndarray) else frames.new_tensor(back), frames)


def _resized(planes: Any, size: tuple[int, int]) -> Any:
    """Return float32 or float64 planes (..., H, W) resized, a new array or tensor."""
    if isinstance(planes, np.ndarray):
        return _each_resized(planes, size, axes=2)
    if _on_host(planes):
        return planes.new_tensor(_each_resized(_numpy(planes), size, axes=2))
    return _resized_by_products(planes, size)


def _each_resized(images: NDArray[Any], size: tuple[int, int], *, axes: int) -> NDArray[Any]:
    """Return images (..., H, W) or (..., H, W, C) resized one by one; `axes` of an image."""
    outer, channels = images.shape[: images.ndim - axes], images.shape[images.ndim - axes + 2 :]
    made = np.empty((*outer, *size, *channels), images.dtype)
    height, width = size
    for at in np.ndindex(outer):
        made[at] = resize(np.ascontiguousarray(images[at]), (width, height)).reshape(made[at].shape)
    return made


def _resized_by_products(planes: Any, size: tuple[int, int]) -> Any:
    """Return a tensor of planes (..., H, W) resized on its device: a product with weights for each axis."""
    height, width = planes.shape[-2:]
    area = area_or_linear((width, height), (size[1], size[0]))
    rows, columns = (
        planes.new_tensor(_weights(before, after, area=area))
        for before, after in zip((height, width), size, strict=True)
    )
    return rows @ planes @ columns.T


def _weights(before: int, after: int, *, area: bool) -> NDArray[np.float64]:
    """Return the weights of `before` samples in each of `after`, (after, before): OpenCV's area or linear."""
    step = before / after
    if area:
        edges = np.arange(after + 1) * step
        samples = np.arange(before)
        high = np.minimum(edges[1:, None], samples + 1)
        overlap: NDArray[np.float64] = np.maximum(high - np.maximum(edges[:-1, None], samples), 0)
        return overlap / step
    centres = np.clip((np.arange(after) + 0.5) * step - 0.5, 0, before - 1)
    hat: NDArray[np.float64] = np.maximum(1 - np.abs(centres[:, None] - np.arange(before)), 0)
    return hat


def _cropped(array: Any, crop: Box | None) -> Any:
    if crop is None:
        return array
    top, left, height, width = crop
    rows, columns = array.shape[-2:]
    inside = 0 <= top < top + height <= rows and 0 <= left < left + width <= columns
    check_that("crop", crop, inside, f"(top, left, height, width) within {rows} rows and {columns} columns")
    return array[..., top : top + height, left : left + width]


def _mirrored_flow(flow: Any, kind: str) -> Any:
    made = _mirrored(flow)
    u = made[..., 0::2, :, :]
    # The least integer of a type is never a code of a store, and has no opposite.
    made[..., 0::2, :, :] = U8_LEVELS - u if kind == "uint8" else -u
    return made


def _mirrored(array: Any) -> Any:
    """Return a mirrored copy."""
    return array[..., ::-1].copy() if isinstance(array, np.ndarray) else array.flip(-1)


def _channels_first(array: Any) -> Any:
    """Return a view (..., C, H, W) of (..., H, W, C)."""
    return array.swapaxes(-1, -2).swapaxes(-2, -3)


def _channels_last(array: Any) -> Any:
    """Return a view (..., H, W, C) of (..., C, H, W)."""
    return array.swapaxes(-3, -2).swapaxes(-2, -1)


def _on_host(array: Any) -> bool:
    return isinstance(array, np.ndarray) or array.device.type == "cpu"


def _numpy(array: Any) -> NDArray[Any]:
    """Return an array, or a tensor of the CPU as one, without a copy."""
    made: NDArray[Any] = array if isinstance(array, np.ndarray) else array.detach().numpy()
    return made


def _floating(array: Any) -> Any:
    """Return an array or tensor as float32, or as it is where it is float64."""
    if isinstance(array, np.ndarray):
        return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)
    return array if str(array.dtype) == "torch.float64" else array.float()


def _like(made: Any, wanted: Any) -> Any:
    """Return floating values in the dtype of `wanted`; uint8 rounded half to even, and clipped."""
    if made.dtype == wanted.dtype:
        return made
    if _kind(wanted) == "uint8":
        made = made.round().clip(0, U8_LEVELS)
    return made.astype(wanted.dtype) if isinstance(made, np.ndarray) else made.to(wanted.dtype)
