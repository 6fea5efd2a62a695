"""Clips as NumPy arrays, by index and epoch, for a training loop with or without PyTorch.

The segments depend on seed, epoch and video alone, never on the reading process or the order; so a run
that resumes at (epoch, position) sees the same segments as one that was not interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from flowkit.datasets import transforms
from flowkit.datasets.sampling import Sampling
from flowkit.datasets.windows import WindowedStore
from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError
from flowkit.jpeg import MOST_PIXELS
from flowkit.quantize import BoundedRange
from flowkit.remote import Location
from flowkit.store.codecs.codec import FlowForm
from flowkit.store.read.handles import keep_freed_memory
from flowkit.store.read.store import Store, open_store
from flowkit.typing import Flow
from flowkit.validate import check_at_least, check_choice, check_range, check_that

SampleKey: TypeAlias = tuple[int, int]
"""(epoch, index) of a sample."""
_NAMED = 5
_SEGMENTS, _ORDER = 1, 2  # keep the random numbers of one apart from those of the other


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipSample:
    """K segments of one video."""

    video_id: str
    label: int
    """Class of the video, counted from 0; -1 without a label."""
    rgb: NDArray[np.uint8] | None
    """uint8 (K, 3, H, W), red first: a view of channels-last images. None without frames."""
    flow: NDArray[Any]
    """(K, 2 L, H, W): u and v of each field in turn, as TSN stacks them."""
    flow_scale: NDArray[np.float32]
    """float32 (K, 2 L, 1, 1): px = flow * flow_scale + `ClipSamples.flow_offset_px`, of any form."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """Several samples: arrays as in `ClipSample`, with a first axis over videos.

    Attributes
    ----------
    video_ids : tuple of str
        Ids of the B videos.
    labels : int64 array (B,)
        Classes, counted from 0; -1 without a label.
    rgb : uint8 array (B, K, 3, H, W) or None
        Frames, red first; None without frames.
    flow : array (B, K, 2 L, H, W)
        u and v of each field in turn, in the form that was asked for.
    flow_scale : float32 array (B, K, 2 L, 1, 1)
        px = flow * flow_scale + `ClipSamples.flow_offset_px`.
    """

    video_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    rgb: NDArray[np.uint8] | None
    flow: NDArray[Any]
    flow_scale: NDArray[np.float32]


class ArraySpec(NamedTuple):
    """Shape and dtype of an array that `ClipSamples.read_into` fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.number]


class _IndexRow(NamedTuple):
    """The index columns of a video that sampling needs."""

    n_flow: int
    label: str
    width: int
    height: int


class ClipSamples:
    """The videos of a store, or of one side of a split, as samples.

    Parameters
    ----------
    store
        A store, its path, or windows of its clips.
    ids
        Ids of the videos, in order; without it all of the store.
    sampling
        The rule of drawing segments.
    training
        Segments, crops and order are random; otherwise centred and in order.
    frames
        Read RGB frames.
    flow
        Read flow; without it `flow` and `flow_scale` have no channels, and segments stay the same.
    field
        The flow field that is read.
    flow_form
        `codes`: as stored, int8 of most stores; the fewest bytes to read and to copy. `px`: float32, px per
        frame step, five times as much. `tsn`: uint8, round(255 (v + 20) / 40), where 20 is the
        store's bound. Whatever the form, px = flow * flow_scale + flow_offset_px.
    crop
        (height, width) that is cut out of frames and flow alike: anywhere in training, else from the
        middle. Without it, samples have their videos' sizes, or those of `resize`.
    seed
        Seed of everything random.
    resize
        (height, width), or the shorter side: frames and flow are resized before they are cropped, as by
        `transform_flow`, whose u follows the width and v the height.
    flip
        Probability that a sample is mirrored left to right, frames and flow alike, whose u changes its
        sign. 1 mirrors each; in between it is drawn from seed, epoch and video, in training only.

    Raises
    ------
    ClipNotFoundError
        The store has no video of an id.
    InputError
        A video is smaller than the crop or has no flow field.

    Notes
    -----
    Flow is resized and mirrored in px, and then put into its form: with `codes`, by its codec's own rule,
    and with `tsn` as if it had been stored so. Still flow keeps the code 128 in a mirrored sample of `tsn`.
    """

    def __init__(
        self,
        store: Store | WindowedStore | Location | str,
        *,
        ids: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        training: bool = False,
        frames: bool = True,
        flow: bool = True,
        field: str = "flow",
        flow_form: FlowForm = "codes",
        crop: tuple[int, int] | None = None,
        seed: int = 0,
        resize: transforms.Size | None = None,
        flip: float = 0.0,
    ) -> None:
        check_choice("flow_form", flow_form, get_args(FlowForm))
        check_at_least("seed", seed, 0)
        self.store = store if isinstance(store, Store | WindowedStore) else open_store(store)
        self.sampling = sampling or Sampling()
        self.training = training
        self.seed = seed
        self.crop, self.resize, self.flip = crop, resize, flip
        self._field, self._flow_form = field, flow_form
        self._frames, self._flow = frames, flow
        self._check_options()
        self.ids: tuple[str, ...] = tuple(self.store if ids is None else ids)
        rows = self._index_rows()
        numbers = {label: number for number, label in enumerate(self.classes)}
        self.labels = [numbers.get(row.label, -1) for row in rows]
        self._n_flow: list[int] = [row.n_flow for row in rows]
        self._sizes: list[tuple[int, int]] = [(row.height, row.width) for row in rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.store.labels

    @property
    def flow_offset_px(self) -> float:
        """Offset, px: flow * flow_scale + flow_offset_px; minus the bound in form `tsn`, else the codec's."""
        options = self.store.options
        return options.codec.form_offset_px(self._flow_form, bound_px=options.bound_px)

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int, epoch: int = 0) -> ClipSample:
        """Return the sample of video `index` in an epoch."""
        one = self.read([(epoch, index)])
        return ClipSample(
            video_id=one.video_ids[0],
            label=int(one.labels[0]),
            rgb=None if one.rgb is None else one.rgb[0],
            flow=one.flow[0],
            flow_scale=one.flow_scale[0],
        )

    def read(self, keys: Sequence[SampleKey], *, threads: int = 1) -> ClipBatch:
        """Return the samples of several keys (epoch, index); parameters and errors as `read_into`'s."""
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in self.layout(keys).items()}
        self.read_into(keys, arrays, threads=threads)
        return ClipBatch(
            video_ids=tuple(self.ids[index] for _, index in keys),
            labels=np.array([self.labels[index] for _, index in keys], np.int64),
            rgb=arrays["images"].transpose(0, 1, 4, 2, 3) if "images" in arrays else None,
            flow=arrays["flow"],
            flow_scale=arrays["flow_scale"],
        )

    def layout(self, keys: Sequence[SampleKey]) -> dict[str, ArraySpec]:
        """Return shape and dtype of the arrays that `read_into` fills, by name.

        Returns
        -------
        dict
            `flow` (n, K, 2 L, H, W), `flow_scale` float32 (n, K, 2 L, 1, 1), with 0 instead of 2 L
            where flow is off, and, unless frames are off, `images` uint8 (n, K, H, W, 3).

        Raises
        ------
        InputError
            The videos are not of one size and no crop is asked for, or that size is never decoded.
        """
        sizes = {self.crop or self._sizes[index] for _, index in keys}
        if len(sizes) != 1:
            raise InputError(
                f"the videos of a batch have several sizes, {sorted(sizes)}; pass crop= or resize="
            )
        height, width = sizes.pop()
        if height * width > MOST_PIXELS:  # of which only the index says so: nothing is allocated for it
            raise InputError(
                f"the videos of a batch are {width}x{height} px in {self.store.path}; more than "
                f"{MOST_PIXELS} px are not decoded"
            )
        count, segments = len(keys), self.sampling.segments
        planes = 2 * self.sampling.stack if self._flow else 0
        dtype = self.store.options.codec.form_dtype(self._flow_form)
        found = {
            "flow": ArraySpec((count, segments, planes, height, width), dtype),
            "flow_scale": ArraySpec((count, segments, planes, 1, 1), np.dtype(np.float32)),
        }
        if self._frames:
            found["images"] = ArraySpec((count, segments, height, width, 3), np.dtype(np.uint8))
        return found

    def read_into(
        self, keys: Sequence[SampleKey], arrays: Mapping[str, NDArray[Any]], *, threads: int = 1
    ) -> None:
        """Read the samples of several keys (epoch, index) into arrays of `layout`.

        Each image and field is copied once, from the decoder's output to its destination.

        Parameters
        ----------
        threads
            Number of videos read at once.
        """
        rows = [{name: values[k] for name, values in arrays.items()} for k in range(len(keys))]
        if min(threads, len(keys)) <= 1:
            for key, row in zip(keys, rows, strict=True):
                self._read_one(key, row)
            return
        keep_freed_memory()
        with ThreadPoolExecutor(threads, thread_name_prefix="flowkit-sample") as pool:
            list(pool.map(self._read_one, keys, rows))

    def _read_one(self, key: SampleKey, row: Mapping[str, NDArray[Any]]) -> None:
        epoch, index = key
        clip, n_flow, sampling = self.store[self.ids[index]], self._n_flow[index], self.sampling
        rng = np.random.default_rng((self.seed, epoch, index, _SEGMENTS))
        starts = sampling.random(n_flow, rng) if self.training else sampling.centred(n_flow)
        window = (geometry := self._geometry(self._sizes[index], rng)).window()
        if "images" in row:
            for image, frame in zip(row["images"], clip.iter_frames(starts.tolist()), strict=True):
                image[...] = frame[window] if window else geometry.of_frame(frame)
        if not self._flow:
            return
        planes = row["flow"].reshape(-1, 2, *row["flow"].shape[2:])
        scales = row["flow_scale"].reshape(-1, 2)
        fields = sampling.fields(starts, n_flow).ravel().tolist()
        form, codec, bound_px = self._flow_form, self.store.options.codec, self.store.options.bound_px
        for k, (codes, scale) in enumerate(clip.iter_codes(fields, field=self._field)):
            if window:
                scales[k] = codec.put(form, codes[:, *window], scale, bound_px=bound_px, out=planes[k])
            else:
                scales[k] = self._put(geometry.of_flow(codec.to_px(codes, scale)), out=planes[k])

    def _put(self, px: Flow, *, out: NDArray[Any]) -> float:
        """Write one field in the form asked for into `out`; return its scale, px a unit."""
        options, tsn = self.store.options, self._flow_form == "tsn"
        if self._flow_form == "px":
            out[...] = px
            return 1.0
        quantizer = BoundedRange(bound_px=options.bound_px) if tsn else options.codec.quantizer
        made = quantizer.quantize(px)
        out[...] = made.codes
        return made.scale

    def order(self, epoch: int = 0) -> NDArray[np.int64]:
        """Return the indices in the order of an epoch, int64 (n,): shuffled in training."""
        if not self.training:
            return np.arange(len(self))
        return np.random.default_rng((self.seed, epoch, 0, _ORDER)).permutation(len(self))

    def partition(self, epoch: int = 0, *, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """Return the part of `order` that one of several processes takes, int64 (m,).

        In training each takes equally many, so that none waits for another, and up to world_size - 1
        videos sit the epoch out; otherwise each video is taken exactly once.
        """
        check_range("rank", rank, 0, world_size, bounds="[)")
        order = self.order(epoch)
        count = len(order) // world_size * world_size if self.training else len(order)
        return order[:count][rank::world_size]

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
    ) -> Iterator[ClipBatch]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        start
            First position in this process's partition, in videos.
        rank, world_size
            This process and the number of processes.
        threads
            Number of videos read at once; batches are read ahead by one.
        """
        keys = [
            (epoch, index)
            for index in self.partition(epoch, rank=rank, world_size=world_size)[start:].tolist()
        ]
        chunks = (keys[at : at + batch_size] for at in range(0, len(keys), batch_size))
        with ThreadPoolExecutor(1, thread_name_prefix="flowkit-batch") as ahead:
            waiting: Future[ClipBatch] | None = None
            for chunk in chunks:
                following = ahead.submit(self.read, chunk, threads=threads)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def _check_options(self) -> None:
        check_range("flip", self.flip, 0, 1)
        drawn = 0 < self.flip < 1 and not self.training
        check_that("flip", self.flip, not drawn, "0 or 1 without training, where nothing is drawn")
        if self.resize is not None:
            transforms.resized_size((1, 1), self.resize)  # its check
        options = self.store.options
        names = [field.name for field in options.fields]
        check_choice("field", self._field, names)
        if self._frames and options.frame_codec == "none":
            raise InvalidParameterError(
                "this store keeps no frames (it was made with --frames none); pass frames=False"
            )

    def _index_rows(self) -> list[_IndexRow]:
        """Return the index rows of the videos, resized; check that all can be sampled."""
        rows = {k: row for row, k in enumerate(self.store)}
        if unknown := [k for k in self.ids if k not in rows]:
            raise ClipNotFoundError(f"{len(unknown)} videos are not in {self.store.path}: {unknown[:_NAMED]}")
        columns = [self.store.column(name) for name in _IndexRow._fields]
        own = [self._resized(_IndexRow(*(column[rows[k]] for column in columns))) for k in self.ids]
        height, width = self.crop or (1, 1)
        small = [
            f"{k} ({row.width}x{row.height}, {row.n_flow} fields)"
            for k, row in zip(self.ids, own, strict=True)
            if row.n_flow < 1 or row.height < height or row.width < width
        ]
        if small:
            raise InputError(
                f"{len(small)} videos have no flow or are smaller than {width}x{height}: {small[:_NAMED]}"
            )
        return own

    def _resized(self, row: _IndexRow) -> _IndexRow:
        if self.resize is None:
            return row
        height, width = transforms.resized_size((row.height, row.width), self.resize)
        return row._replace(height=height, width=width)

    def _geometry(self, size: tuple[int, int], rng: np.random.Generator) -> transforms.Geometry:
        """Draw crop and flip of a sample of this (height, width)."""
        crop = None
        if self.crop is not None:
            room = [whole - cut for whole, cut in zip(size, self.crop, strict=True)]
            top, left = (int(rng.integers(n + 1)) if self.training else n // 2 for n in room)
            crop = (top, left, *self.crop)
        # Last, and only if it is wanted: other draws of a seed stay what they are.
        flip = self.flip == 1 or (self.flip > 0 and rng.random() < self.flip)
        return transforms.Geometry(size=None if self.resize is None else size, crop=crop, flip=flip)
