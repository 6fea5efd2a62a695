"""The gate's input from two streams that other tools computed: maps of one size and number of channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from gating.config import Combine
from gating.fusing.inputs import StreamArrays

Maps = NDArray[np.floating]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GateMaps:
    """Maps of both streams' clips.

    Attributes
    ----------
    rgb, flow : NDArray
        float16 or float32 (N, C, h, w), of one shape.
    of_features : bool
        They are features, 1 x 1, of any scale.
    about : str
        The gate's input in words.
    """

    rgb: Maps
    flow: Maps
    of_features: bool
    about: str

    @property
    def channels(self) -> int:
        """C."""
        return int(self.rgb.shape[1])

    def scaled(self, rows: NDArray[np.intp]) -> GateMaps:
        """Return features standardised by some clips, from which the gate learns; maps as they are."""
        if not self.of_features:
            return self
        return dataclasses.replace(
            self, rgb=_standardised(self.rgb, rows), flow=_standardised(self.flow, rows)
        )


def gate_maps(rgb: StreamArrays, flow: StreamArrays, *, combine: Combine = "concat") -> GateMaps | str:
    """Return what the gate reads of two streams of the same clips, or the reason for which there is no gate.

    It is both streams' maps: of two grids the larger one is averaged down to the smaller one, and missing
    channels are zeros, which weigh nothing in a join on channels. Without maps of both it is both streams'
    features, means over segments, as maps of 1 x 1. A stream of scores alone leaves the gate nothing to read.

    Raises
    ------
    InvalidParameterError
        The join adds maps, or stacks them, and their numbers of channels differ.
    """
    both = (rgb, flow)
    maps = [one.maps for one in both if one.maps is not None]
    of_features = len(maps) < len(both)
    if of_features:
        columns = [_mean_features(one) for one in both]
        blind = [one.name for one, column in zip(both, columns, strict=True) if column is None]
        if blind:
            return f"no gate: it reads maps or features, and of {' and '.join(blind)} there are scores alone"
        maps = [column[:, :, None, None] for column in columns if column is not None]
    shapes = [array.shape[1:] for array in maps]
    if combine != "concat" and shapes[0][0] != shapes[1][0]:
        raise InvalidParameterError(
            f"the gate's join {combine!r} needs maps of one number of channels, got {shapes[0]} of "
            f"{rgb.name} and {shapes[1]} of {flow.name}; combine='concat' takes both"
        )
    channels = max(shape[0] for shape in shapes)
    grid = (min(shape[1] for shape in shapes), min(shape[2] for shape in shapes))
    sizes = " and ".join(" x ".join(map(str, shape)) for shape in dict.fromkeys(shapes))
    return GateMaps(
        rgb=_fitted(maps[0], channels, grid),
        flow=_fitted(maps[1], channels, grid),
        of_features=of_features,
        about=f"the gate reads the {'features' if of_features else 'maps'} of both, {sizes}",
    )


def _mean_features(stream: StreamArrays) -> NDArray[np.float32] | None:
    if stream.features is None or stream.features.ndim == 2:
        return stream.pooled()
    features: NDArray[np.float32] = stream.features.mean(axis=1)
    return features


def _standardised(maps: Maps, rows: NDArray[np.intp]) -> Maps:
    """Return channels of mean 0 and variance 1 over some clips; those that are constant there become 0."""
    learned = maps[rows].astype(np.float64)
    mean, std = learned.mean(axis=(0, 2, 3)), learned.std(axis=(0, 2, 3))
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6 * abs(mean))
    scaled: Maps = ((maps - mean[:, None, None]) * scale[:, None, None]).astype(np.float32)
    return scaled


def _fitted(maps: Maps, channels: int, grid: tuple[int, int]) -> Maps:
    if maps.shape[2:] != grid:
        maps = F.adaptive_avg_pool2d(torch.from_numpy(maps).float(), grid).numpy()
    missing = channels - maps.shape[1]
    return np.pad(maps, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else maps
