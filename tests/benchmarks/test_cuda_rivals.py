"""Rivals: what is absent is named, and RAFT is timed in each precision."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cuda_rivals import RAFT_UPDATES, rival_hardware, rival_opencv, time_raft
from benchmarks.cuda_workload import Workload


def test_what_opencv_lacks_is_absent() -> None:
    assert all("absent" in result for result in rival_opencv(Workload()))
    assert all("absent" in result for result in rival_hardware(Workload()))


def test_raft_is_timed_in_each_precision() -> None:
    torch: Any = pytest.importorskip("torch")
    seen = []

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(6, 2, 3)

        def forward(self, first: Any, second: Any, num_flow_updates: int) -> list[Any]:
            flow = self.layer(torch.cat([first, second], 1))
            seen.append((first.shape, flow.dtype, num_flow_updates))
            return [flow]

    results = list(time_raft("raft", Model(), (16, 24), device="cpu"))
    assert [result["precision"].split()[-1] for result in results] == ["float32", "float16", "bfloat16"]
    assert not any("failed" in result for result in results)
    assert {shape for shape, _, _ in seen} == {(16, 3, 16, 24)}
    assert {kind for _, kind, _ in seen} == {torch.float32, torch.float16, torch.bfloat16}
    assert {updates for _, _, updates in seen} == {RAFT_UPDATES}
