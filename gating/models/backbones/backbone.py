"""The interface of backbones: stages that yield their feature maps, and the form of the input."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from flowkit.validate import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """Normalisation and channel order of a network's input.

    Parameters
    ----------
    mean, std : (float, float, float)
        Subtracted from and divided into pixels in [0, 255], in the network's channel order.
    order : {"rgb", "bgr"}
        The network's channel order.
    flow_std : float
        Divides flow codes less 128.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: Literal["rgb", "bgr"] = "rgb"
    flow_std: float = 1.0


# torchvision's and most others', for pixels in [0, 255].
IMAGENET_INPUT = InputSpec(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    # tsn-pytorch, models.py: flow is divided by the mean of the three.
    flow_std=0.226 * 255,
)


class Backbone(nn.Module):
    """A convolutional trunk without its classifier.

    Attributes
    ----------
    taps : dict of str to int
        Layers the gate may read, in order, and their channels.
    default_tap : str
        The layer that it reads by default.
    features : int
        Length of the pooled feature.
    first_conv : str
        Name of the convolution that sees the input; a flow stream's is inflated.
    inputs : InputSpec
        Normalisation and channel order of its input.
    """

    taps: ClassVar[dict[str, int]]
    default_tap: ClassVar[str]
    features: ClassVar[int]
    first_conv: ClassVar[str]
    inputs: ClassVar[InputSpec]

    def stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield each tap's name and map (n, C, h, w) in order; the last is the final map."""
        raise NotImplementedError

    def forward(self, pixels: Tensor, tap: str) -> tuple[Tensor, Tensor]:
        """Return the pooled feature (n, features) and the map of `tap`, float.

        Parameters
        ----------
        pixels
            float (n, in_channels, H, W), normalised by `inputs`.
        tap
            One of `taps`.
        """
        check_choice("tap", tap, self.taps)
        feature_map = final = pixels
        for name, final in self.stages(pixels):
            if name == tap:
                feature_map = final
        return final.mean(dim=(2, 3)), feature_map

    def fuse_norms(self) -> None:
        """Put each batch norm into the convolution that is registered just before it.

        For a network in evaluation mode that learns no more: its results stay, but for roundings, and
        its tensors have other names. Every pass over the maps that is saved counts on a CPU.
        """
        for module in list(self.modules()):
            children = list(module.named_children())
            for (name, conv), (norm_name, norm) in itertools.pairwise(children):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    setattr(module, name, fuse_conv_bn_eval(conv, norm))
                    setattr(module, norm_name, nn.Identity())
