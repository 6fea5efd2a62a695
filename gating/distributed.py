"""The device and precision that a process computes with, and its collectives with the run's other processes.

Without torchrun a run is one process. With it, each process has a GPU of its own (nccl), or all
share the CPU (gloo).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from flowkit.errors import InvalidParameterError

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The device of this process and its rank among the processes of a run.

    Every process has to call the collectives (`all_sum`, `all_reduce`, `all_gather`, `barrier`) in
    the same order.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the process that writes files and logs."""
        return self.rank == 0

    def all_sum(self, values: Sequence[float]) -> list[float]:
        """Return sums of host values over the processes, float64; no GPU is waited for."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        sums: list[float] = total.tolist()
        return sums

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor on the device over the processes, in place, and return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, value: Item) -> list[Item]:
        """Return each process's value, by rank."""
        if self.world_size == 1:
            return [value]
        found = [value] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world_size > 1:
            dist.barrier()


def process_group_from_environment() -> ProcessGroup:
    """Return rank and world size from torchrun's environment, on the CPU, without joining."""
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    return ProcessGroup(torch.device("cpu"), rank, world_size)


@contextlib.contextmanager
def join_process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the other processes of the run: torchrun's, if this one was started so.

    Parameters
    ----------
    device
        "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    InvalidParameterError
        It is none of these, or there is no such GPU.
    """
    asked = process_group_from_environment()
    rank, world_size = asked.rank, asked.world_size
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if world_size > 1 else None)
    if world_size == 1:
        yield ProcessGroup(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # gloo beside nccl: processes agree on host values without waiting for their GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(chosen, rank, world_size)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidParameterError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda":
        found = torch.cuda.device_count()
        number = device.index if device.index is not None else (local_rank or 0)
        if number >= found:
            raise InvalidParameterError(f"device {name!r} asks for GPU {number}, torch sees {found}")
        return torch.device("cuda", number)
    return device


def precision_of(amp: bool, device: torch.device) -> torch.dtype | None:
    """Return bfloat16, float16 on GPUs that lack it, or None without mixed precision."""
    if not amp:
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Return the context in which networks run; it does nothing without mixed precision."""
    return torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None)
