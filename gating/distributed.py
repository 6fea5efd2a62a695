"""Where a process computes, and how several processes of one run speak to each other.

Without torchrun there is one process. With it, each has a GPU of its own (nccl), or they share the
CPU (gloo).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from flowkit.errors import InvalidParameterError


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One process of a run: its device, and which of how many it is."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def summed(self, values: list[float]) -> list[float]:
        """Return sums over the processes, float64."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        total: list[float] = tensor.tolist()
        return total

    def gathered(self, value: Any) -> list[Any]:
        """Return each process's value, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            dist.barrier()


def place_asked_for() -> Place:
    """Return the place that torchrun's environment gives this process, on the CPU, without joining."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    return Place(torch.device("cpu"), rank, world)


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Place]:
    """Take this process's place in the run: torchrun's, if it was started so.

    Parameters
    ----------
    device
        "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    InvalidParameterError
        It is none of these, or there is no such GPU.
    """
    asked = place_asked_for()
    world, rank = asked.world, asked.rank
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else None)
    if world == 1:
        yield Place(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Place(chosen, rank, world)
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
