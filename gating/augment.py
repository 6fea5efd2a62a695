"""Crops, flips and normalisation of a batch on its device: one draw for both modalities of a clip.

A crop and its flip are drawn on the CPU, from a generator that a checkpoint can keep, and are
applied in one resampling on the batch's device: frames and flow of a clip, and all its segments,
get the same. On a flip the codes of x-flow become 255 - code.

Source: tsn-pytorch, transforms.py (`GroupMultiScaleCrop`, `GroupOverSample`); the released
gating networks' transform_param.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from flowkit.errors import InvalidParameterError
from gating.config import AugmentConfig
from gating.models.backbones import InputSpec

FLOW_ZERO = 128.0
LEVELS = 255.0
# TSN: a crop within 3 px of the network's size is taken at that size, and so not resampled.
SNAP_PX = 3
TSN_SHARE = 224 / 256


@dataclasses.dataclass(frozen=True, slots=True)
class Crops:
    """One crop a clip.

    Attributes
    ----------
    boxes : Tensor
        int64 (B, 4): top, left, height, width, px.
    flips : Tensor
        bool (B,).
    """

    boxes: Tensor
    flips: Tensor


def flow_codes(flow: Tensor, scale: Tensor, *, bound_px: float, offset_px: float = 0.0) -> Tensor:
    """Map flow to TSN's codes: clip to +-bound, then round(255 (v + bound) / (2 bound)); zero is 128.

    Parameters
    ----------
    flow, scale
        `flow` (B, K, 2L, H, W) and `flow_scale` (B, K, 2L, 1, 1) of a batch of `flowkit.datasets`,
        in any of its forms: px per frame step is flow * scale + `offset_px`.
    bound_px
        `AugmentConfig.bound_px`.
    offset_px
        `flow_offset_px` of the dataset.

    Returns
    -------
    Tensor
        float32 of flow's shape, whole numbers in [0, 255].
    """
    px = flow.float() * scale.to(flow.device) + offset_px
    return ((px.clamp(-bound_px, bound_px) + bound_px) * (LEVELS / (2 * bound_px))).round()


def draw_crops(clips: int, size: tuple[int, int], config: AugmentConfig, generator: torch.Generator) -> Crops:
    """Draw one of TSN's thirteen places at one of its scales, and a flip, for each clip.

    Parameters
    ----------
    clips
        How many.
    size
        Height and width of the stored pictures, px.
    generator
        On the CPU; its state decides all.
    """
    sides = _crop_sides(min(size), config)
    pairs = [
        (high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= config.max_distort
    ]
    chosen = torch.randint(len(pairs), (clips,), generator=generator).tolist()
    places = torch.randint(len(PLACES), (clips,), generator=generator).tolist()
    coins = torch.rand(clips, generator=generator)
    boxes = [_box(size, pairs[pair], PLACES[place]) for pair, place in zip(chosen, places, strict=True)]
    return Crops(torch.tensor(boxes), (coins < 0.5) & config.flip)


# Down and right, in quarters of the room that is left: corners, centre, edges, inner corners.
PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)
FIVE_PLACES = PLACES[:5]


def _crop_sides(shorter: int, config: AugmentConfig) -> list[int]:
    sides = [int(shorter * scale) for scale in config.scales]
    return [config.size if abs(side - config.size) < SNAP_PX else side for side in sides]


def _box(size: tuple[int, int], crop: tuple[int, int], place: tuple[int, int]) -> tuple[int, int, int, int]:
    # A side that snapped up to the network's size may stand over the picture by a pixel or two.
    high, wide = (min(side, room) for side, room in zip(crop, size, strict=True))
    down, right = place
    return down * ((size[0] - high) // 4), right * ((size[1] - wide) // 4), high, wide


def evaluation_crops(clips: int, size: tuple[int, int], config: AugmentConfig, count: int) -> list[Crops]:
    """Return the crops of testing: 1 (centre), 5 (corners and centre) or 10 (and their mirrors).

    A crop's side is TSN's share of the shorter side, 224 of 256, and is resized to the network's
    size where that differs.

    Returns
    -------
    list of Crops
        One entry a crop, the same for all clips.
    """
    if count not in (1, 5, 10):
        raise InvalidParameterError(f"crops must be 1, 5 or 10, got {count}")
    side = round(min(size) * TSN_SHARE)
    side = config.size if abs(side - config.size) < SNAP_PX else side
    places = ((2, 2),) if count == 1 else FIVE_PLACES
    crops = []
    for flipped in (False, True)[: 2 if count == 10 else 1]:
        for place in places:
            box = torch.tensor(_box(size, (side, side), place))
            crops.append(Crops(box.expand(clips, 4), torch.full((clips,), flipped)))
    return crops


def resample(pictures: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut each clip's crop out of its pictures and resize it bilinearly, mirrored where it flips.

    Parameters
    ----------
    pictures
        float (B, C, H, W); segments and channels together.

    Returns
    -------
    Tensor
        float32 (B, C, size, size). Equal to OpenCV's INTER_LINEAR of the crop alone: nothing
        outside of the crop is read.
    """
    height, width = pictures.shape[-2:]
    boxes = crops.boxes.to(pictures.device, torch.float32)
    steps = (torch.arange(size, device=pictures.device) + 0.5) / size
    rows = _positions(boxes[:, 0:1], boxes[:, 2:3], steps)
    flips = crops.flips.to(pictures.device)[:, None]
    columns = _positions(boxes[:, 1:2], boxes[:, 3:4], torch.where(flips, 1 - steps, steps))
    # grid_sample counts from -1 to 1 over the outer edges of the picture.
    across = ((2 * columns + 1) / width - 1)[:, None, :].expand(-1, size, -1)
    down = ((2 * rows + 1) / height - 1)[:, :, None].expand(-1, -1, size)
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(pictures.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _positions(first: Tensor, side: Tensor, steps: Tensor) -> Tensor:
    """Pixel centres to read, px, kept within the crop [first, first + side - 1]."""
    return torch.minimum(torch.maximum(first + steps * side - 0.5, first), first + side - 1)


def rgb_input(frames: Tensor, crops: Crops, inputs: InputSpec, *, size: int) -> Tensor:
    """Return the spatial stream's input.

    Parameters
    ----------
    frames
        uint8 RGB (B, K, 3, H, W).
    inputs
        Of the stream's backbone: mean, deviation and channel order.

    Returns
    -------
    Tensor
        float32 (B, K, 3, size, size).
    """
    pictures = resample(frames.flatten(1, 2), crops, size)
    pictures = pictures.view(*frames.shape[:3], size, size)
    if inputs.order == "bgr":
        pictures = pictures.flip(2)
    mean = torch.tensor(inputs.mean, device=pictures.device)[:, None, None]
    std = torch.tensor(inputs.std, device=pictures.device)[:, None, None]
    return (pictures - mean) / std


def flow_input(codes: Tensor, crops: Crops, inputs: InputSpec, *, size: int) -> Tensor:
    """Return the temporal stream's input.

    Parameters
    ----------
    codes
        float (B, K, 2L, H, W), of `flow_codes`.
    inputs
        Of the stream's backbone: its `flow_std`.

    Returns
    -------
    Tensor
        float32 (B, K, 2L, size, size): (code - 128) / flow_std, of codes resized as codes.
    """
    pictures = resample(codes.flatten(1, 2), crops, size)
    pictures = pictures.view(*codes.shape[:3], size, size)
    flips = crops.flips.to(pictures.device)[:, None, None, None, None]
    across = pictures[:, :, 0::2]
    pictures[:, :, 0::2] = torch.where(flips, LEVELS - across, across)
    return (pictures - FLOW_ZERO) / inputs.flow_std
