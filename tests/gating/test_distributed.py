"""A process's device, its rank, and what it gathers alone."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from flowkit.errors import InvalidParameterError
from gating.distributed import ProcessGroup, join_process_group, precision_of, process_group_from_environment

CPU = torch.device("cpu")


def test_without_torchrun_a_run_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_process_group("cpu") as group:
        assert group == process_group_from_environment() == ProcessGroup(CPU, 0, 1)
        assert group.is_main
        assert group.all_sum([1.0, 2.5]) == [1.0, 2.5]
        assert group.all_gather("own") == ["own"]
        assert torch.equal(group.all_reduce(torch.arange(3)), torch.arange(3))
        group.barrier()


def test_torchruns_environment_gives_rank_and_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    group = process_group_from_environment()
    assert (group.rank, group.world_size, group.is_main) == (3, 4, False)


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "must be auto, cpu, cuda or cuda:N"), ("cuda:99", "asks for GPU 99")]
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message), join_process_group(device):
        pass


def test_mixed_precision_is_bfloat16_on_the_cpu() -> None:
    assert precision_of(True, CPU) is torch.bfloat16
    assert precision_of(False, CPU) is None
