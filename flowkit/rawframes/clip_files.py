"""One stored clip as the files of a layout: JPEG bytes copied from the store, or encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from flowkit import jpeg
from flowkit.flow_files.formats import FORMATS
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD, BACKWARD_KINDS, Kind, Layout
from flowkit.store import checked_hdf5
from flowkit.store.read.store import Store

_AXES: Mapping[Kind, int] = {"x": 0, "y": 1, "bx": 0, "by": 1}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The files to make of each clip.

    Parameters
    ----------
    layout : Layout
        Names and form.
    frames, flow : bool
        Write images, write flow.
    field : str
        Name of the flow field; of a layout with names for both directions the forward one.
    bound_px : float
        Half the range of flow images, px; of a store whose codec keeps such images, the store's.
    quality : int
        JPEG quality of flow images that have to be encoded, 1 to 100.
    """

    layout: Layout
    frames: bool
    flow: bool
    field: str
    bound_px: float
    quality: int

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of files to make, of those that the layout has a name for."""
        return tuple(k for k in self.layout.templates if (self.frames if k == "img" else self.flow))


@dataclasses.dataclass(slots=True)
class ExportTally:
    """Counts of written frames and flow fields, and of clipped components among `values`."""

    n_frames: int = 0
    n_flow: int = 0
    clipped: int = 0
    values: int = 0


class ExportedClip:
    """The files of one clip of an open store.

    Parameters
    ----------
    store : Store
        An open store.
    video_id : str
        One of its ids.
    recipe : Recipe
        The files to make.
    tally : ExportTally
        Counts them.
    kinds : collection of str, optional
        The kinds of files to make, where they are not all.
    """

    def __init__(
        self,
        store: Store,
        video_id: str,
        recipe: Recipe,
        tally: ExportTally,
        *,
        kinds: Collection[Kind] | None = None,
    ) -> None:
        self._video = store.stored_video(video_id)
        self._clip = store[video_id]
        self._where = f"{video_id!r} of {store.path}"
        self._recipe, self._tally = recipe, tally
        made = recipe.kinds if kinds is None else kinds
        self._frames_wanted = "img" in made
        self._flow_kinds = tuple(kind for kind in made if kind != "img")
        self.record = self._video.record

    def files(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of each file, frame by frame; each is read on demand.

        Raises
        ------
        StoreCorruptError
            A stored chunk fails its CRC.
        """
        record, layout = self.record, self._recipe.layout
        for index in range(record.n_frames):
            if self._frames_wanted:
                yield layout.file_name("img", index), self._frame(index)
                self._tally.n_frames += 1
            if self._flow_kinds and index < record.n_flow:
                yield from self._flow_files(index)
                # Once a field, where u and v are made apart.
                self._tally.n_flow += self._flow_kinds != ("y",)
            on_frame()

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams of `images`."""
        return (*(["frames"] if self._recipe.frames else []), *(["flow"] if self._recipe.flow else []))

    def images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[tuple[str, bytes]]:
        """Yield the images of the stream `frames` and, u and v in turn, of `flow`; each is read on demand.

        Raises
        ------
        StoreCorruptError
            A stored chunk fails its CRC.
        """
        record, recipe = self.record, self._recipe
        for index in range(record.n_frames):
            if recipe.frames:
                yield "frames", self._frame(index)
                self._tally.n_frames += 1
            if recipe.flow and index < record.n_flow:
                for plane in self._flow_images(index, ("x", "y"), recipe.field):
                    yield "flow", plane
                self._tally.n_flow += 1
            on_frame()

    def _frame(self, index: int) -> bytes:
        with checked_hdf5.contained(self._where):
            return self._video.frames[index]

    def _flow_files(self, index: int) -> Iterator[tuple[str, bytes]]:
        layout = self._recipe.layout
        if layout.form == "fields":
            field = next(self._clip.iter_flow([index], field=self._recipe.field))
            name = layout.file_name("flo", index)
            yield name, FORMATS[Path(name).suffix.lower()].to_bytes(field)
        else:
            for name, backward in ((self._recipe.field, False), (BACKWARD_FIELD, True)):
                kinds = [kind for kind in self._flow_kinds if (kind in BACKWARD_KINDS) == backward]
                for kind, image in zip(kinds, self._flow_images(index, kinds, name), strict=True):
                    yield layout.file_name(kind, index), image

    def _flow_images(self, index: int, kinds: Sequence[Kind], field_name: str) -> list[bytes]:
        """Return the images of u, of v, of both or of none."""
        recipe, axes = self._recipe, [_AXES[kind] for kind in kinds]
        if not axes:
            return []
        with checked_hdf5.contained(self._where):
            field = self._video.field(field_name)
            if field.codec.stores_planes:
                chunks = field.chunks(index)
                return [chunks[axis] for axis in axes]
            codes, scale = field.codes(index), float(field.scales[index])
        planes, clipped = field.codec.to_planes(codes, scale, bound_px=recipe.bound_px)
        if 0 in axes:
            self._tally.clipped += clipped
            self._tally.values += planes.size
        return [jpeg.encode_grey(planes[axis], recipe.quality) for axis in axes]

    def write_npy(self, folder: Path, on_frame: Callable[[], None] = lambda: None) -> None:
        """Write frames.npy and flow.npy into a folder, a frame at a time."""
        record = self.record
        size = (record.height, record.width)
        if self._recipe.frames:
            frames = np.lib.format.open_memmap(
                folder / "frames.npy", "w+", dtype=np.uint8, shape=(record.n_frames, *size, 3)
            )
            for index in range(record.n_frames):
                frames[index] = jpeg.decode(self._frame(index))
                on_frame()
            self._tally.n_frames += record.n_frames
        if self._recipe.flow:
            flow = np.lib.format.open_memmap(
                folder / "flow.npy", "w+", dtype=np.float32, shape=(record.n_flow, 2, *size)
            )
            for index, field in enumerate(self._clip.iter_flow(field=self._recipe.field)):
                flow[index] = field
            self._tally.n_flow += record.n_flow
