"""Read a store's clips as the networks' input: batches on the device, cropped and normalised.

The content of a batch depends on the seed, the epoch and the step alone, whatever the number of
processes, workers and micro-batches; so a resumed run sees the batches of an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from flowkit.datasets import ClipDataset, ClipSampler, collate_clips
from gating.config import AugmentConfig, LoaderConfig, Modality
from gating.data.augment import (
    Crops,
    StepCrops,
    evaluation_crops,
    flow_codes,
    flow_image_input,
    flow_input,
    rgb_input,
)
from gating.data.balance import balanced_keys
from gating.data.partition import TrialData
from gating.distributed import ProcessGroup, precision_of
from gating.models.backbones import InputSpec
from gating.train_config import TrainConfig

BOTH: tuple[Modality, Modality] = ("flow", "rgb")


class ClipArrays(TypedDict, total=False):
    """A collated batch of a `ClipDataset`, as `flowkit.datasets.torch` has it."""

    rgb: Tensor
    flow: Tensor
    flow_scale: Tensor
    label: Tensor
    id: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InputBatch:
    """Some clips on the device, ready for the networks.

    Attributes
    ----------
    ids : list of str
        Of the B clips.
    labels : Tensor
        int64 (B,), index into the trial's classes.
    flow, rgb : Tensor or None
        float32 (B, K, C, S, S), normalised; None where it was not asked for.
    """

    ids: list[str]
    labels: Tensor
    flow: Tensor | None
    rgb: Tensor | None

    def of(self, modality: Modality) -> Tensor:
        """Return one modality's input."""
        found = self.flow if modality == "flow" else self.rgb
        assert found is not None, f"{modality} was not read"
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The clips of one optimiser step that fall to this process.

    Attributes
    ----------
    number : int
        Within its epoch.
    batches : Iterator of InputBatch
        Micro-batches, read as they are asked for.
    clips : int
        Number of clips of all of them.
    position : int
        Clips of this process's partition of the epoch that are done after the step.
    """

    number: int
    batches: Iterator[InputBatch]
    clips: int
    position: int


class ClipLoader:
    """Reader of a trial's clips for networks of one input specification.

    Parameters
    ----------
    data, config
        Of the trial.
    inputs
        Normalisation and channel order of the backbone's input.
    process_group
        This process: its device, and its partition of the clips.
    loader_config
        Workers and micro-batches.
    """

    def __init__(
        self,
        data: TrialData,
        config: TrainConfig,
        inputs: InputSpec,
        *,
        process_group: ProcessGroup,
        loader_config: LoaderConfig,
    ) -> None:
        self.data, self.config = data, config
        self.process_group, self.loader_config = process_group, loader_config
        self.precision = precision_of(config.amp, process_group.device)
        self._inputs = inputs
        numbers = {name: index for index, name in enumerate(data.classes)}
        # Labels of the store count all of its classes; those of the trial only the split's.
        self._class_of = torch.tensor([numbers.get(name, -1) for name in data.store.labels] or [-1])

    def steps_per_epoch(self, ids: Sequence[str], batch: int) -> int:
        """Return the number of steps of `batch` clips, over all processes, in an epoch of `ids`."""
        world_size = self.process_group.world_size
        return -(-(len(ids) // world_size) // max(1, batch // world_size))

    def training(
        self,
        ids: Sequence[str],
        augment: AugmentConfig,
        modalities: Sequence[Modality] = BOTH,
        *,
        batch: int,
        epoch: int,
        position: int = 0,
        segments: int | None = None,
    ) -> Iterator[Step]:
        """Yield the steps of an epoch from a position of this process's partition on.

        Its clips are each of `ids` once, or with `TrainConfig.sampling` "balanced" as many of each class.

        Parameters
        ----------
        ids
            The clips to learn from.
        augment
            Scales and flips of the crops.
        modalities
            Those that are read.
        batch
            Clips of a step over all processes.
        epoch, position
            Where the steps begin.
        segments
            Of a clip; None is the configuration's.
        """
        world_size, rank = self.process_group.world_size, self.process_group.rank
        own = max(1, batch // world_size)
        segments = segments or self.config.segments
        dataset = self._dataset(ids, modalities, segments=segments, training=True)
        sampler = ClipSampler(dataset, rank=rank, world_size=world_size)
        sampler.seek(epoch, position)
        end = len(sampler) + position
        balanced = self.config.sampling == "balanced"
        plan = _micro_batches(position, end, own, most=self.loader_config.micro_batch)
        keys = iter(self._balanced(ids, epoch, position) if balanced else list(sampler))
        batches = [[next(keys) for _ in range(count)] for counts in plan for count in counts]
        loaded = iter(self._loader(dataset, batches))
        for number, counts in enumerate(plan, start=position // own):
            # Drawn for all processes alike, of which each takes its own.
            partition, seed = slice(rank, None, world_size), (self.config.seed, epoch, number)
            crops = StepCrops(augment, sum(counts) * world_size, seed, partition)
            micro_batches = self._step_batches(loaded, counts, crops, modalities, dataset=dataset)
            yield Step(number, micro_batches, sum(counts), min((number + 1) * own, end))

    def _balanced(self, ids: Sequence[str], epoch: int, position: int) -> list[tuple[int, int]]:
        """Return the keys of this process's partition of a balanced epoch, from a position on."""
        rank, world_size = self.process_group.rank, self.process_group.world_size
        labels = [self.data.labels[video_id] for video_id in ids]
        keys = balanced_keys(labels, seed=self.config.seed, epoch=epoch)
        return keys[: len(keys) // world_size * world_size][rank::world_size][position:]

    def testing(
        self, ids: Sequence[str], modalities: Sequence[Modality] = BOTH, *, segments: int, crops: int = 1
    ) -> Iterator[list[InputBatch]]:
        """Yield this process's partition of clips in order: each batch once for every crop of testing."""
        dataset = self._dataset(ids, modalities, segments=segments, training=False)
        rank, world_size = self.process_group.rank, self.process_group.world_size
        own = dataset.samples.partition(0, rank=rank, world_size=world_size).tolist()
        # As many segments at once as training has, so that memory does not depend on the test.
        size = max(1, self.loader_config.micro_batch * self.config.segments // segments)
        batches = [[(0, index) for index in own[at : at + size]] for at in range(0, len(own), size)]
        augment = self.config.augment
        for raws in self._loader(dataset, batches):
            sized = [(raw, evaluation_crops(len(raw["id"]), _size(raw), augment, crops)) for raw in raws]
            yield [
                _concatenated([self._inputs_of(raw, cuts[k], modalities, dataset) for raw, cuts in sized])
                for k in range(crops)
            ]

    def _dataset(
        self, ids: Sequence[str], modalities: Sequence[Modality], *, segments: int, training: bool
    ) -> ClipDataset:
        return ClipDataset(
            self.data.store,
            ids=ids,
            segments=segments,
            stack=self.config.stack,
            short=self.config.short,
            training=training,
            frames="rgb" in modalities,
            flow="flow" in modalities,
            field=self.config.field,
            seed=self.config.seed,
        )

    def _loader(
        self, dataset: ClipDataset, batches: list[list[tuple[int, int]]]
    ) -> Iterable[list[ClipArrays]]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.loader_config.workers,
            collate_fn=_collated,
            worker_init_fn=_leave_interrupts_to_the_loop,
            pin_memory=self.process_group.device.type == "cuda",
        )

    def _step_batches(
        self,
        loaded: Iterator[list[ClipArrays]],
        counts: Sequence[int],
        crops: StepCrops,
        modalities: Sequence[Modality],
        *,
        dataset: ClipDataset,
    ) -> Iterator[InputBatch]:
        """Yield a step's micro-batches, each from the next loaded batch."""
        start = 0
        for _ in counts:
            parts = []
            for raw in next(loaded):
                stop = start + len(raw["id"])
                cuts = crops.of(_size(raw), slice(start, stop))
                parts.append(self._inputs_of(raw, cuts, modalities, dataset))
                start = stop
            yield _concatenated(parts)

    def _inputs_of(
        self, raw: ClipArrays, crops: Crops, modalities: Sequence[Modality], dataset: ClipDataset
    ) -> InputBatch:
        device, augment = self.process_group.device, self.config.augment
        crops = crops.to(device)
        flow = rgb = None
        if "flow" in modalities:
            codes = flow_codes(
                raw["flow"].to(device, non_blocking=True),
                raw["flow_scale"],
                bound_px=augment.bound_px,
                offset_px=dataset.flow_offset_px,
            )
            make = flow_image_input if self.config.flow_input == "image" else flow_input
            flow = make(codes, crops, self._inputs, size=augment.size)
        if "rgb" in modalities:
            frames = raw["rgb"].to(device, non_blocking=True)
            rgb = rgb_input(frames, crops, self._inputs, size=augment.size)
        labels = self._class_of[raw["label"]].to(device, non_blocking=True)
        return InputBatch(ids=list(raw["id"]), labels=labels, flow=flow, rgb=rgb)


def _micro_batches(position: int, end: int, step: int, *, most: int) -> list[list[int]]:
    """Return the clips of each micro-batch of each step; none runs over the end of its step."""
    steps = [min(step, end - start) for start in range(position, end, step)]
    return [[min(most, clips - at) for at in range(0, clips, most)] for clips in steps]


def _size(raw: ClipArrays) -> tuple[int, int]:
    height, width = raw["flow"].shape[-2:]
    return height, width


def _collated(items: list[dict[str, Tensor]]) -> list[ClipArrays]:
    """Return one batch if the clips are of one size, else one of each clip, in order."""
    if len({item["flow"].shape for item in items}) == 1:
        return [collate_clips(items)]
    return [collate_clips([dict(item)]) for item in items]


def _concatenated(parts: Sequence[InputBatch]) -> InputBatch:
    if len(parts) == 1:
        return parts[0]
    return InputBatch(
        ids=[video_id for part in parts for video_id in part.ids],
        labels=torch.cat([part.labels for part in parts]),
        flow=None if parts[0].flow is None else torch.cat([part.of("flow") for part in parts]),
        rgb=None if parts[0].rgb is None else torch.cat([part.of("rgb") for part in parts]),
    )


def _leave_interrupts_to_the_loop(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the loop ends its step first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
