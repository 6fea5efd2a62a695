"""Flow codecs: flow fields to stored bytes and back.

A codec is a `FlowCodec` in a file of this folder and its line in `FLOW_CODECS`; everything else,
from the engines to the command line, asks the codec. Codecs load on first use, so that their
names and helps cost neither NumPy nor h5py.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import TYPE_CHECKING, NamedTuple

from flowkit.validate import check_choice

if TYPE_CHECKING:
    from flowkit.store.codecs.codec import FlowCodec


class CodecEntry(NamedTuple):
    """A codec's line in the registry."""

    home: str
    """`module:class` of its `FlowCodec`."""
    help: str
    """Short description, for the command line."""
    bounded: bool = False
    """True if it holds flow within the `bound_px` of a store's options, which others ignore."""


FLOW_CODECS: dict[str, CodecEntry] = {
    "q8": CodecEntry(
        "flowkit.store.codecs.scaled:QuantileScaleCodec", "int8, scaled by a field's 99.9 % point"
    ),
    "i8": CodecEntry("flowkit.store.codecs.scaled:FieldScaleCodec", "int8, scaled per field, clips nothing"),
    "i16": CodecEntry("flowkit.store.codecs.scaled:FixedStepCodec", "1/64 px"),
    "jpeg": CodecEntry("flowkit.store.codecs.jpeg:JpegCodec", "TSN's and denseflow's bytes", bounded=True),
}
"""Every codec by its name: that of a store's options and of `--flow-codec`."""

DEFAULT_FLOW_CODEC = next(iter(FLOW_CODECS))
PLANE_CODEC = "jpeg"
"""The codec that keeps flow images of TSN and denseflow byte for byte: that of an import."""
DEFAULT_BOUND_PX = 20.0
"""TSN's bound, px."""
CLIPPED_WARNING = 0.001
"""Fraction of a video's flow components that a codec may clip without a warning."""


@functools.cache
def flow_codec(name: str, *, bound_px: float = DEFAULT_BOUND_PX) -> FlowCodec:
    """Return a codec.

    Parameters
    ----------
    name
        One of `FLOW_CODECS`.
    bound_px
        Half the range of a bounded codec, px.

    Raises
    ------
    InvalidParameterError
        There is no such codec.
    """
    check_choice("flow_codec", name, FLOW_CODECS)
    entry = FLOW_CODECS[name]
    module, _, kind = entry.home.partition(":")
    codec: FlowCodec = getattr(importlib.import_module(module), kind)(
        name=name, bound_px=bound_px if entry.bounded else math.inf
    )
    return codec


def clipped_warning(name: str, fraction: float, *, largest_px: float) -> str:
    """Return a sentence on what a codec clipped of a video, "" up to `CLIPPED_WARNING`.

    Parameters
    ----------
    name
        Of the codec.
    fraction
        Of the video's flow components, in [0, 1].
    largest_px
        Its largest component, px.
    """
    if fraction <= CLIPPED_WARNING:
        return ""
    other = next(each for each in FLOW_CODECS if each != name)
    larger = " or a larger --bound" if FLOW_CODECS[name].bounded else ""
    return (
        f"{fraction:.2%} of the flow is beyond the range of --flow-codec {name} and was clipped (largest "
        f"{largest_px:.1f} px), expected {CLIPPED_WARNING:.1%} at most; use --flow-codec {other}{larger}"
    )


def bounded_names() -> str:
    """Return the names of the bounded codecs, for texts."""
    return ", ".join(name for name, entry in FLOW_CODECS.items() if entry.bounded)
