"""Options of `gating.features`: what the rows of a clip are, which networks see them, and where from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from flowkit.extraction.store_run import VideoOutcome
from flowkit.jobs import Progress
from flowkit.validate import check_choice, check_integer, check_range, check_that
from gating.config import BACKBONES, MAX_SEGMENTS, MAX_STACK, Modality

Per = Literal["clip", "segment", "window"]
"""The rows of a clip's features: one, one a segment, or one a window."""
Streams = Literal["both", "rgb", "flow"]
DEFAULT_BACKBONE, DEFAULT_WEIGHTS = "efficientnet_lite0", "imagenet"

MODALITIES: dict[Streams, tuple[Modality, ...]] = {
    "both": ("rgb", "flow"),
    "rgb": ("rgb",),
    "flow": ("flow",),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FeatureOptions:
    """Options of `features`.

    Parameters
    ----------
    per : {"clip", "segment", "window"}
        The rows of a clip: its mean over `segments`, each segment, or each window.
    window, stride : int
        Frames of a window, and from the start of one to that of the next, >= 1.
    frames_per_window, fields_per_window : int
        Frames and stacks of flow read of a window, whose features' mean is the row, >= 1.
    segments : int
        Of a clip, >= 1; each gives a frame and a stack.
    streams : {"both", "rgb", "flow"}
        Backbones that are run.
    run : Path or None
        A run's folder, or a trial's: its streams' backbones, on input as they learned from; without
        backbone, weights and stack.
    backbone : str
        One of `gating.config.BACKBONES`, of both streams.
    weights, flow_weights : str
        "imagenet" (from an installed package) or a file's path; "" for flow is that of rgb.
    stack : int or None
        Flow fields of one input of 2 L channels, >= 1; None: one field as an image of x, y and length.
    fps : float or None
        Raw videos are resampled by time to so many frames per second, > 0; None is their own rate.
    ids : tuple of str
        Only these clips; empty is all.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    threads : int or None
        Of torch in this process; None leaves them as they are.
    keep_suffix : bool
        Keep the suffix of a raw video's file in its id.
    jobs : int or None
        Processes that extract raw videos; None is one a core.
    scratch : Path or None
        Folder for the temporary store of raw videos, which goes on with what it finds there; None is the
        system's for temporaries.
    on_note : callable
        Called with notes that stop nothing.
    on_progress : callable
        Called with the progress of an extraction.
    """

    per: Per = "window"
    window: int = 16
    stride: int = 8
    frames_per_window: int = 1
    fields_per_window: int = 1
    segments: int = 12
    streams: Streams = "both"
    run: Path | None = None
    backbone: str = DEFAULT_BACKBONE
    weights: str = DEFAULT_WEIGHTS
    flow_weights: str = ""
    stack: int | None = None
    fps: float | None = None
    ids: tuple[str, ...] = ()
    device: str = "auto"
    threads: int | None = None
    keep_suffix: bool = False
    jobs: int | None = None
    scratch: Path | None = None
    on_note: Callable[[str], None] = lambda _: None
    on_progress: Callable[[Progress[VideoOutcome]], None] = lambda _: None

    def __post_init__(self) -> None:
        """Check each choice."""
        check_choice("per", self.per, get_args(Per))
        check_choice("streams", self.streams, get_args(Streams))
        check_choice("backbone", self.backbone, BACKBONES)
        for name in ("window", "stride"):
            check_integer(name, getattr(self, name), 1, unit="frames")
        for name in ("frames_per_window", "fields_per_window"):
            check_range(name, getattr(self, name), 1, self.window)
        check_range("segments", self.segments, 1, MAX_SEGMENTS)
        if self.stack is not None:
            check_range("stack", self.stack, 1, MAX_STACK, unit="flow fields")
        if self.fps is not None:
            check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        given = (self.backbone, self.weights, self.flow_weights, self.stack)
        alone = given == (DEFAULT_BACKBONE, DEFAULT_WEIGHTS, "", None)
        if self.run is not None:
            check_that("run", str(self.run), alone, "given without backbone, weights, flow_weights and stack")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The streams, rgb first."""
        return MODALITIES[self.streams]
