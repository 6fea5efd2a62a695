"""A store's clips for PyTorch; of flowkit, only this module imports torch.

    dataset = ClipDataset("out.h5", ids=train_ids, training=True, crop=(224, 224))
    loader = DataLoader(
        dataset, 8, sampler=ClipSampler(dataset), num_workers=4, collate_fn=collate_clips
    )

Items are dicts: `rgb` uint8 (K, 3, H, W) unless frames are off, `flow` (K, 2 L, H, W) as stored,
`flow_scale` float32 (K, 2 L, 1, 1), `label` int (-1 without one), `id` str. On the device,

    px = batch["flow"] * batch["flow_scale"] + dataset.flow_offset_px
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from flowkit.datasets.reader import ClipSamples, SampleKey
from flowkit.datasets.sampling import Sampling, Short
from flowkit.datasets.transforms import Size
from flowkit.datasets.windows import WindowedStore
from flowkit.errors import InputError, InvalidParameterError
from flowkit.store.codecs.codec import FlowForm
from flowkit.store.read.store import Store
from flowkit.validate import check_at_least, check_range

Item: TypeAlias = dict[str, Any]
Transform: TypeAlias = Callable[[Item], Any]


class ClipDataset(Dataset[Any]):
    """Map-style dataset: item i is K segments of video i.

    Parameters
    ----------
    store, ids, training, frames, flow, field, flow_form, crop, seed, resize, flip
        As for `ClipSamples`.
    segments, stack, short
        As for `Sampling`.
    transform
        Called with each item in the process that reads it.
    threads
        Number of items of a batch that a process reads at once.

    Notes
    -----
    With `collate_fn=collate_clips` a batch is read straight into its tensors; any other collating
    works, with two more copies. A key is (epoch, index), as `ClipSampler` gives: the same key draws the same
    segments. An index alone, as of `DataLoader(shuffle=True)`, draws anew each time in training, from
    torch's generator of the process. Workers may be forked or spawned; each has its own handles.
    """

    def __init__(
        self,
        store: Store | WindowedStore | Path | str,
        *,
        ids: Sequence[str] | None = None,
        segments: int = 3,
        stack: int = 5,
        short: Short = "clamp",
        training: bool = False,
        frames: bool = True,
        flow: bool = True,
        field: str = "flow",
        flow_form: FlowForm = "codes",
        crop: tuple[int, int] | None = None,
        seed: int = 0,
        transform: Transform | None = None,
        threads: int = 1,
        resize: Size | None = None,
        flip: float = 0.0,
    ) -> None:
        self.samples = ClipSamples(
            store,
            ids=ids,
            sampling=Sampling(segments=segments, stack=stack, short=short),
            training=training,
            frames=frames,
            flow=flow,
            field=field,
            flow_form=flow_form,
            crop=crop,
            seed=seed,
            resize=resize,
            flip=flip,
        )
        self._transform = transform
        self._threads = threads

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.samples.classes

    @property
    def flow_offset_px(self) -> float:
        """Offset, px: flow * flow_scale + flow_offset_px."""
        return self.samples.flow_offset_px

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey | int) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> list[Any]:
        """Return the items of a batch, which DataLoader reads in one call."""
        wanted = [self._key(key) for key in keys]
        one_size = self._one_size(wanted)
        items = self._read(wanted) if one_size else [item for key in wanted for item in self._read([key])]
        if self._transform is None:
            return items
        # What it changes in place would not be in the whole batch.
        made = [self._transform(ClipItem(item)) for item in items]
        # Of a type for which torch's own collating comes to `collate_clips`, whose error names the crop.
        return made if one_size else [_collated_here(item) for item in made]

    def _key(self, key: SampleKey | int) -> SampleKey:
        epoch, index = key if isinstance(key, tuple) else (self._epoch(), key)
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of a dataset of {len(self)}")  # ends a plain for loop
        return epoch, index % len(self)

    def _epoch(self) -> int:
        """Return an epoch for an index alone: in training a new one, of 2^63, each time."""
        if not self.samples.training:
            return 0
        # torch seeds its generator in each worker and epoch; NumPy's would repeat in forked ones.
        return int(torch.randint(torch.iinfo(torch.int64).max, ()).item())

    def _one_size(self, keys: Sequence[SampleKey]) -> bool:
        try:
            self.samples.layout(keys)
        except InputError:  # a transform may still make them of one size; if not, `collate_clips` says so
            return False
        return True

    def _read(self, keys: Sequence[SampleKey]) -> list[Item]:
        """Read a batch into tensors of its own, of which the items are views."""
        samples = self.samples
        tensors = {name: _allocated(*layout) for name, layout in samples.layout(keys).items()}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        samples.read_into(keys, arrays, threads=self._threads)
        if "images" in tensors:
            tensors["rgb"] = tensors.pop("images").permute(0, 1, 4, 2, 3)
        labels = [samples.labels[index] for _, index in keys]
        ids = [samples.ids[index] for _, index in keys]
        whole = {**tensors, "label": torch.tensor(labels), "id": ids}
        return [
            ClipItem(
                {name: tensor[k] for name, tensor in tensors.items()} | {"label": label, "id": video_id},
                whole=whole,
                position=k,
            )
            for k, (label, video_id) in enumerate(zip(labels, ids, strict=True))
        ]


class ClipItem(dict[str, Any]):
    """An item with a reference to the batch that it is a view of, if its values are still those."""

    def __init__(self, values: Item, *, whole: Item | None = None, position: int = 0) -> None:
        super().__init__(values)
        self.whole, self.position = whole, position


class ClipTuple(tuple[Any, ...]):
    """A tuple that a transform made of an item."""


class ClipList(list[Any]):
    """A list that a transform made of an item."""


class ClipTensor(torch.Tensor):
    """A tensor that a transform made of an item; what is made of it is a plain one."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def _collated_here(made: Any) -> Any:
    """Return what a transform made of an item, as the type of this module that is equal to it."""
    if type(made) is torch.Tensor:
        return made.as_subclass(ClipTensor)
    if type(made) is dict:
        return ClipItem(made)
    if type(made) is list:
        return ClipList(made)
    return ClipTuple(made) if type(made) is tuple else made


def collate_clips(items: Sequence[Any]) -> Any:
    """Return items as a batch: `collate_fn` of a DataLoader over clips.

    As torch's own, but items that were read as one batch are that batch, without another copy.

    Raises
    ------
    InputError
        The clips are of several sizes.
    """
    first = items[0]
    if isinstance(first, ClipItem) and first.whole and len(first.whole["id"]) == len(items):
        in_order = all(
            isinstance(item, ClipItem) and item.whole is first.whole and item.position == position
            for position, item in enumerate(items)
        )
        if in_order:
            return dict(first.whole)
    try:
        return default_collate([_plain(item) for item in items])
    except RuntimeError as error:
        sizes = _image_sizes(items)
        if len(sizes) < 2:
            raise
        raise InputError(
            f"the videos of a batch have several sizes, {sorted(sizes)}; pass crop=(height, width), "
            "resize=(height, width), a transform that makes them of one size, or collate_fn=collate_padded"
        ) from error


def collate_padded(items: Sequence[Any]) -> dict[str, Any]:
    """Return items of any sizes as a batch: the smaller ones are padded below and to the right.

    Items are dicts with `rgb`, `flow` or both. `rgb` is padded with 0, `flow` with still flow (uint8: 128),
    to the largest height and the largest width. All else is collated as by `collate_clips`. The batch has
    `valid` too: bool (B, H, W), False where an item was padded.

    Raises
    ------
    InputError
        An item is no such dict, or its `rgb` and `flow` differ in size.
    """
    sizes = [_one_image_size(item) for item in items]
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    valid = torch.zeros(len(items), height, width, dtype=torch.bool)
    for mask, (rows, columns) in zip(valid, sizes, strict=True):
        mask[:rows, :columns] = True
    if len(set(sizes)) > 1:
        items = [
            item | {name: _padded(item, name, height, width) for name in _IMAGES if name in item}
            for item in items
        ]
    return {**collate_clips(items), "valid": valid}


_IMAGES = ("rgb", "flow")


def _one_image_size(item: Any) -> tuple[int, int]:
    """Return the (height, width) of an item's rgb and flow."""
    tensors = [item[name] for name in _IMAGES if name in item] if isinstance(item, dict) else []
    sizes = {(int(tensor.shape[-2]), int(tensor.shape[-1])) for tensor in tensors}
    if len(sizes) != 1:
        raise InputError(
            f"collate_padded takes dicts whose rgb and flow have one size, got {sorted(sizes)} in a "
            f"{type(item).__name__}; collate it with a function of your own"
        )
    return sizes.pop()


def _padded(item: Item, name: str, height: int, width: int) -> torch.Tensor:
    tensor: torch.Tensor = item[name]
    still = 128 if name == "flow" and tensor.dtype == torch.uint8 else 0
    made = tensor.new_full((*tensor.shape[:-2], height, width), still)
    made[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return made


def _plain(item: Any) -> Any:
    """Return an item as the built-in type that it is one of."""
    if isinstance(item, ClipTensor):
        return item.as_subclass(torch.Tensor)
    if isinstance(item, ClipItem):
        return dict(item)
    if isinstance(item, ClipList):
        return list(item)
    return tuple(item) if isinstance(item, ClipTuple) else item


def _image_sizes(items: Sequence[Any]) -> set[tuple[int, ...]]:
    """Return the (height, width) of the items' first images or flow that have several; empty without any."""
    for alike in zip(*map(_tensors, items), strict=False):
        sizes = {tuple(tensor.shape[-2:]) for tensor in alike if tensor.ndim > 2}
        if len(sizes) > 1:
            return sizes
    return set()


def _tensors(item: Any) -> list[torch.Tensor]:
    """Return the tensors in dicts, tuples and lists, in order."""
    if isinstance(item, torch.Tensor):
        return [item]
    values = item.values() if isinstance(item, dict) else item if isinstance(item, tuple | list) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def _collate_by_default(items: Sequence[Any], *, collate_fn_map: object = None) -> Any:
    """Collate in a DataLoader without `collate_fn`, which looks for this by the items' type."""
    return collate_clips(items)


# PyTorch documents this mapping for types of one's own (`default_collate`); its module has no public name.
for _type in (ClipItem, ClipTuple, ClipList, ClipTensor):
    default_collate_fn_map[_type] = _collate_by_default


def _allocated(shape: tuple[int, ...], dtype: np.dtype[np.number]) -> torch.Tensor:
    """Return an empty tensor; in a worker in shared memory, which saves a copy."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    nbytes = math.prod(shape) * dtype.itemsize
    # As torch's own collating; there is no public way without a copy.
    storage = torch.UntypedStorage._new_shared(nbytes)  # type: ignore[no-untyped-call]
    tensor = torch.empty(0, dtype=kind)
    tensor.set_(storage)
    return tensor.resize_(shape)


class ClipSampler(Sampler[tuple[int, int]]):
    """The order of an epoch for one process: keys (epoch, index) for a `ClipDataset`.

    Parameters
    ----------
    dataset
        Its `training` decides whether the order is shuffled and divided evenly.
    rank, world_size
        This process and the number of processes; without them those of torch.distributed, or of the
        environment that torchrun sets.

    Notes
    -----
    Each pass continues with the next epoch. `position` counts the keys yielded, which is ahead of the
    clips trained on where workers prefetch; a training loop that resumes calls `seek` with its own
    position. The keys are then those of an uninterrupted run, for any number of workers.
    """

    def __init__(
        self, dataset: ClipDataset, *, rank: int | None = None, world_size: int | None = None
    ) -> None:
        self._samples = dataset.samples
        self._rank, self._world_size = _rank_and_size(rank, world_size)
        self.epoch, self.position = 0, 0

    def seek(self, epoch: int, position: int = 0) -> None:
        """Continue from a position of an epoch, counted in videos of this process."""
        check_at_least("epoch", epoch, 0)
        check_range("position", position, 0, self._count(epoch))
        self.epoch, self.position = epoch, position

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the position that the next key comes from."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a `state_dict`."""
        self.seek(state["epoch"], state["position"])

    def __len__(self) -> int:
        return self._count(self.epoch) - self.position

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        partition = self._samples.partition(epoch, rank=self._rank, world_size=self._world_size).tolist()
        if self.position == len(partition):
            self.epoch, self.position = epoch + 1, 0
            return
        for index in partition[self.position :]:
            self.position += 1
            # With the last key already: a loop that counts its batches, as Lightning's, asks for no more.
            if self.position == len(partition):
                self.epoch, self.position = epoch + 1, 0
            yield epoch, index

    def _count(self, epoch: int) -> int:
        return len(self._samples.partition(epoch, rank=self._rank, world_size=self._world_size))


def _rank_and_size(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world_size: as given, of torch.distributed, of the environment, or 0 of 1."""
    if (rank is None) != (world_size is None):
        raise InvalidParameterError(f"rank and world_size go together, got {rank=} and {world_size=}")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            rank, world_size = distributed.get_rank(), distributed.get_world_size()
        else:
            rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    check_range("rank", rank, 0, world_size, bounds="[)")
    return rank, world_size
