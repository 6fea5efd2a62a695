"""Every choice of an import, checked, and the options of the store that it makes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import get_args

from flowkit.methods.method import method_json
from flowkit.rawframes.encoding import Unknown
from flowkit.rawframes.import_worker import IMPORTED, UNKNOWN_METHOD
from flowkit.rawframes.inspection import Pairing
from flowkit.rawframes.layouts import IMPORT_LAYOUTS, readings
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD, BACKWARD_KINDS, Kind, Layout
from flowkit.rawframes.listed import is_clip
from flowkit.store.codecs import DEFAULT_FLOW_CODEC, PLANE_CODEC
from flowkit.store.schema import DEFAULT_SHARD_BYTES, FieldOptions, StoreOptions
from flowkit.typing import FrameCodec
from flowkit.validate import check_at_least, check_choice, check_range, check_that

_MOST_NAME = 100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """Every choice of an import.

    Parameters
    ----------
    layout : str
        Layout of the folders, one of `flowkit.rawframes.layouts.IMPORT_LAYOUTS`.
    templates : tuple of str
        Other file names, `KIND=NAME`; see `make_layout`.
    first_index : int, optional
        Number of the first frame instead of the layout's; flow moves with it.
    first_flow_index : int, optional
        Number of the first flow field, where it is not that which goes with the frames.
    step : int, optional
        Frames between the two of a pair, >= 1; without it as the file names say, or 1.
    backward : bool, optional
        Import backward flow too, as the field `flow_backward`; without it where the file names have it.
    bound_px : float
        Half the range that the flow images were quantised to, px; no file records it.
    fps : float
        Frames per second, for the times, > 0; no file records that either.
    frame_codec : {"jpeg", "none"}
        Import frames, or flow alone.
    pairing : {"first", "second"}
        The frame of its pair that has the number of a flow image: the first, or, in folders of TSN's
        own extractor, the second, at step 1 only.
    flow_codec : str, optional
        Codec of the store where flow is numbers, one of `flowkit.store.codecs.FLOW_CODECS`; without it, that
        of the store, and of a new one the default.
        Images of flow are kept, so that theirs is `PLANE_CODEC`.
    unknown : {"refuse", "zero"}
        Of flow as numbers: a clip with pixels of unknown flow fails, or they are stored as 0 and its record
        has their fraction. No codec has a code for unknown.
    method_name : str, optional
        Name of what made the flow, such as "raft", kept in the store's options.
    jobs : int
        Worker processes, >= 1.
    shard_bytes : int
        Beyond this size the store is a master file and shards.
    update : bool
        Redo folders that have changed since.
    log_file : Path, optional
        Gets a line of JSON for each event of the run, appended; see `flowkit.extraction.watch`.
    """

    layout: str = "tsn"
    templates: tuple[str, ...] = ()
    first_index: int | None = None
    first_flow_index: int | None = None
    step: int | None = None
    backward: bool | None = None
    bound_px: float = 20.0
    fps: float = 25.0
    frame_codec: FrameCodec = "jpeg"
    pairing: Pairing = "first"
    flow_codec: str | None = None
    unknown: Unknown = "refuse"
    method_name: str | None = None
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    update: bool = False
    log_file: Path | None = None

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, IMPORT_LAYOUTS)
        paired = self.pairing == "first" or (self.pairing == "second" and self.step in (1, None))
        check_that("pairing", self.pairing, paired, "first, or second at step 1")
        check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        check_at_least("jobs", self.jobs, 1)
        check_at_least("shard_bytes", self.shard_bytes, 1 << 20)
        if self.step is not None:
            check_at_least("step", self.step, 1)
        # These check the rest.
        layouts = self.layouts()
        self.options()
        fits = not self.backward or BACKWARD_KINDS[0] in layouts[0].templates
        check_that("backward", self.backward, fits, f"left out: layout {self.layout} has no names for it")
        self._check_flow(layouts[0])

    def _check_flow(self, layout: Layout) -> None:
        """Check what says how flow is stored against the kind of its files."""
        check_choice("unknown", self.unknown, get_args(Unknown))
        if not layout.of_numbers:
            kept = self.flow_codec in (None, PLANE_CODEC)
            why = f"left out or {PLANE_CODEC}: images of layout {layout.name} are kept"
            check_that("flow_codec", self.flow_codec, kept, why, remedy="flowkit recode changes a store")
            why = f"left out: images of layout {layout.name} have no unknown pixels"
            check_that("unknown", self.unknown, self.unknown == "refuse", why)
        name = self.method_name
        fits = name is None or (0 < len(name) <= _MOST_NAME and name.isprintable() and name == name.strip())
        expected = f"1 to {_MOST_NAME} printable characters, no space first or last"
        check_that("method_name", name, fits, expected)

    def layouts(self) -> tuple[Layout, ...]:
        """Return the variants of the layout that a folder may have."""
        return readings(
            self.layout,
            templates=self.templates,
            first_index=self.first_index,
            first_flow_index=self.first_flow_index,
            step=self.step or 1,
        )

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of files that are wanted."""
        left_out = (() if self.backward else BACKWARD_KINDS) + (
            () if self.frame_codec == "jpeg" else ("img",)
        )
        return tuple(kind for kind in self.layouts()[0].templates if kind not in left_out)

    def is_clip(self, folder: Path, path: str) -> bool:
        """Return whether a clip that a list names exists."""
        return is_clip(folder, self.layouts()[0], path)

    def options(self) -> StoreOptions:
        """Return the options of the store: all that is unknown of such folders is named imported."""
        names = ("flow", BACKWARD_FIELD) if self.backward else ("flow",)
        of_numbers = self.layouts()[0].of_numbers
        codec = self.flow_codec or (DEFAULT_FLOW_CODEC if of_numbers else PLANE_CODEC)
        method = self.method_name or (UNKNOWN_METHOD if of_numbers else None)
        params = "{}" if method is None else method_json(method, params={}, versions={})
        return StoreOptions(
            fields=tuple(FieldOptions(name=name, tvl1_preset=IMPORTED, tvl1_params=params) for name in names),
            step=self.step or 1,
            flow_codec=codec,
            bound_px=self.bound_px,
            frame_codec=self.frame_codec,
            # OpenCV's default, for frames that are no JPEG; the bytes of the others are kept.
            jpeg_quality=95,
            resize=json.dumps({"mode": IMPORTED}),
            sampling=json.dumps({"assumed_fps": self.fps, "pairing": self.pairing}),
            # No engine of flowkit goes on with it; the tools of the images compute with OpenCV.
            engine_family="opencv",
        )


def resumed_config(config: ImportConfig, stored: StoreOptions | None) -> ImportConfig:
    """Return the configuration with the store's codec where flow is numbers and it names none."""
    if stored is None or config.flow_codec is not None or not config.layouts()[0].of_numbers:
        return config
    return dataclasses.replace(config, flow_codec=stored.flow_codec)
