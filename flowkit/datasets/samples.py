"""Clips as NumPy arrays, by index and epoch: what a training loop reads, with or without PyTorch.

Which segments are drawn depends on the seed, the epoch and the video alone, never on who reads it or
in which order; so a run that goes on from (epoch, position) sees what it would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from flowkit.datasets.sampling import Sampling
from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError
from flowkit.quantize import U8_LEVELS, dequantize_u8, quantize_u8
from flowkit.store.reader import ClipRequest, Store, open_store

FlowForm: TypeAlias = Literal["px", "codes", "tsn"]
_NAMED = 5
_SEGMENTS, _ORDER = 1, 2  # keep the random numbers of one apart from those of the other


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipSample:
    """K segments of one video."""

    video_id: str
    label: int
    """Its class, counted from 0; -1 without a label."""
    rgb: NDArray[np.uint8] | None
    """uint8 (K, 3, H, W), red first: a view of pictures that lie channels-last. None without frames."""
    flow: NDArray[Any]
    """(K, 2 L, H, W): u and v of each field in turn, as TSN stacks them."""
    flow_scale: NDArray[np.float32]
    """float32 (K, 2 L, 1, 1): px = flow * flow_scale + `ClipSamples.flow_offset_px`, of any form."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """Samples stacked along a first axis."""

    video_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    rgb: NDArray[np.uint8] | None
    flow: NDArray[Any]
    flow_scale: NDArray[np.float32]


class ClipSamples:
    """The videos of a store, or of one side of a split, as samples.

    Parameters
    ----------
    store
        A store or its path.
    ids
        Which videos, in order; without it all of the store.
    sampling
        How segments are drawn.
    training
        Segments, crops and order are random; otherwise centred and in order.
    frames
        Whether RGB frames are read.
    field
        The flow field that is read.
    flow_form
        `codes`: as stored, int8 of most stores; least to read and to move about. `px`: float32, px per
        frame step, five times as much. `tsn`: uint8, round(255 (v + 20) / 40), where 20 is the
        store's bound. Whatever the form, px = flow * flow_scale + flow_offset_px.
    crop
        (height, width) that is cut out of frames and flow alike: anywhere in training, else from the
        middle. Without it, samples have their videos' sizes.
    seed
        Of everything random.

    Raises
    ------
    ClipNotFoundError
        The store has no video of an id.
    InputError
        A video is smaller than the crop or has no flow field.
    """

    def __init__(
        self,
        store: Store | Path | str,
        *,
        ids: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        training: bool = False,
        frames: bool = True,
        field: str = "flow",
        flow_form: FlowForm = "codes",
        crop: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        if flow_form not in get_args(FlowForm):
            raise InvalidParameterError(
                f"Invalid flow_form ({flow_form!r}). Supported values are {get_args(FlowForm)}"
            )
        if seed < 0:
            raise InvalidParameterError(f"seed must be >= 0, got {seed}")
        self.store = store if isinstance(store, Store) else open_store(store)
        self.sampling = sampling or Sampling()
        self.training = training
        self.seed = seed
        self.crop = crop
        self._field, self._flow_form = field, flow_form
        self._frames = frames
        self._check_options()
        self.ids: tuple[str, ...] = tuple(self.store if ids is None else ids)
        self._n_flow, self.labels = self._described()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.store.labels

    @property
    def flow_offset_px(self) -> float:
        """What to add to flow * flow_scale: minus the bound where flow is uint8, else 0."""
        options = self.store.options
        unsigned = self._flow_form == "tsn" or (self._flow_form, options.flow_codec) == ("codes", "jpeg")
        return -options.bound_px if unsigned else 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int, epoch: int = 0) -> ClipSample:
        """Return the sample that video `index` gives in an epoch."""
        video_id, n_flow = self.ids[index], self._n_flow[index]
        rng = np.random.default_rng((self.seed, epoch, index, _SEGMENTS))
        sampling = self.sampling
        starts = sampling.random(n_flow, rng) if self.training else sampling.centred(n_flow)
        data = self.store[video_id].read(
            ClipRequest(
                video_id=video_id,
                frames=starts.tolist() if self._frames else (),
                flow=sampling.fields(starts, n_flow).ravel().tolist(),
                field=self._field,
            )
        )
        window = self._window(data.codes.shape[2:], rng)
        codes = data.codes[:, :, *window]
        shape = (sampling.segments, 2 * sampling.stack, *codes.shape[2:])
        flow, scales = self._formed(codes, data.scales)
        return ClipSample(
            video_id=video_id,
            label=self.labels[index],
            rgb=None if data.frames is None else data.frames[:, *window].transpose(0, 3, 1, 2),
            flow=flow.reshape(shape),
            flow_scale=np.repeat(scales, 2).reshape(sampling.segments, -1, 1, 1),
        )

    def order(self, epoch: int = 0) -> NDArray[np.int64]:
        """Return the indices in the order of an epoch: shuffled in training."""
        if not self.training:
            return np.arange(len(self))
        return np.random.default_rng((self.seed, epoch, 0, _ORDER)).permutation(len(self))

    def share(self, epoch: int = 0, *, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
        """Return the part of `order` that one of several processes takes.

        In training each takes equally many, so that none waits for another, and up to world - 1
        videos sit the epoch out; otherwise each video is taken exactly once.
        """
        if not 0 <= rank < world:
            raise InvalidParameterError(f"rank must be in [0, world), got {rank} of {world}")
        order = self.order(epoch)
        return order[: len(order) // world * world if self.training else len(order)][rank::world]

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
    ) -> Iterator[ClipBatch]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        start
            Position in this process's share to go on from, in videos.
        rank, world
            Which of how many processes this is.
        threads
            How many videos are read at once; batches are made ahead by one.
        """
        keys = self.share(epoch, rank=rank, world=world)[start:].tolist()
        chunks = [keys[at : at + batch_size] for at in range(0, len(keys), batch_size)]
        with ThreadPoolExecutor(threads, thread_name_prefix="flowkit-sample") as pool:
            ahead = ([pool.submit(self.sample, index, epoch) for index in chunk] for chunk in chunks)
            current = next(ahead, None)
            while current is not None:
                following = next(ahead, None)
                yield stacked([future.result() for future in current])
                current = following

    def _check_options(self) -> None:
        options = self.store.options
        names = [field.name for field in options.fields]
        if self._field not in names:
            raise InvalidParameterError(f"Invalid field ({self._field!r}). Supported values are {names}")
        if self._frames and options.frame_codec == "none":
            raise InvalidParameterError(
                "this store keeps no frames (it was made with --frames none); pass frames=False"
            )

    def _described(self) -> tuple[list[int], list[int]]:
        """Return the flow fields and the class of each video, and check that all can be sampled."""
        rows = {k: row for row, k in enumerate(self.store)}
        if unknown := [k for k in self.ids if k not in rows]:
            raise ClipNotFoundError(f"{len(unknown)} videos are not in {self.store.path}: {unknown[:_NAMED]}")
        columns = {name: self.store.column(name) for name in ("n_flow", "label", "width", "height")}
        own = [{name: columns[name][rows[k]] for name in columns} for k in self.ids]
        height, width = self.crop or (1, 1)
        small = [
            f"{k} ({row['width']}x{row['height']}, {row['n_flow']} fields)"
            for k, row in zip(self.ids, own, strict=True)
            if row["n_flow"] < 1 or row["height"] < height or row["width"] < width
        ]
        if small:
            raise InputError(
                f"{len(small)} videos have no flow or are smaller than {width}x{height}: {small[:_NAMED]}"
            )
        numbers = {label: number for number, label in enumerate(self.classes)}
        return [row["n_flow"] for row in own], [numbers.get(row["label"], -1) for row in own]

    def _window(self, size: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
        if self.crop is None:
            return slice(None), slice(None)
        room = [whole - cut for whole, cut in zip(size, self.crop, strict=True)]
        at = [int(rng.integers(n + 1)) if self.training else n // 2 for n in room]
        top, left = (slice(start, start + cut) for start, cut in zip(at, self.crop, strict=True))
        return top, left

    def _formed(
        self, codes: NDArray[Any], scales: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return flow in the form that is asked for, contiguous."""
        if self._flow_form == "codes":
            return np.ascontiguousarray(codes), scales
        bound_px, ones = self.store.options.bound_px, np.ones_like(scales)
        if self._flow_form == "tsn":
            return tsn_pixels(codes, scales, bound_px=bound_px), ones * (2 * bound_px / U8_LEVELS)
        if codes.dtype == np.uint8:
            return dequantize_u8(codes, bound_px=bound_px), ones
        return codes * scales[:, None, None, None], ones


def tsn_pixels(codes: NDArray[Any], scales: NDArray[np.float32], *, bound_px: float) -> NDArray[np.uint8]:
    """Return stored flow as the pixels of TSN's pictures: 0 to 255 over [-bound, bound], clipped.

    Parameters
    ----------
    codes
        int8, int16 or uint8 (n, 2, H, W).
    scales
        float32 (n,), px a code.
    """
    if codes.dtype == np.uint8:
        return np.ascontiguousarray(codes)
    if codes.dtype == np.int8:
        # Of 256 possible values each: a table is several times faster than arithmetic.
        values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
        tables = [quantize_u8(values * scale, bound_px=bound_px)[0] for scale in scales]
        places = np.ascontiguousarray(codes).view(np.uint8)
        return np.stack([table[field] for table, field in zip(tables, places, strict=True)])
    return quantize_u8(codes * scales[:, None, None, None], bound_px=bound_px)[0]


def stacked(samples: Sequence[ClipSample]) -> ClipBatch:
    """Return samples as a batch.

    Raises
    ------
    InputError
        They are not of one size.
    """
    sizes = {sample.flow.shape for sample in samples}
    if len(sizes) > 1:
        raise InputError(
            f"the videos of a batch have several sizes, {sorted(size[2:] for size in sizes)}; "
            "pass crop=(height, width)"
        )
    rgb = [sample.rgb for sample in samples if sample.rgb is not None]
    return ClipBatch(
        video_ids=tuple(sample.video_id for sample in samples),
        labels=np.array([sample.label for sample in samples], np.int64),
        rgb=np.stack(rgb) if rgb else None,
        flow=np.stack([sample.flow for sample in samples]),
        flow_scale=np.stack([sample.flow_scale for sample in samples]),
    )
