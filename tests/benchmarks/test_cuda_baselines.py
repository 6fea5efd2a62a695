"""Baselines: what is absent is named, and RAFT is timed in each precision."""

from __future__ import annotations

import importlib.util
from typing import Any

import cv2
import pytest

from benchmarks.cuda_baselines import RAFT_UPDATES, baseline_hardware, baseline_opencv, time_raft
from benchmarks.cuda_workload import Workload


def test_what_opencv_lacks_is_absent() -> None:
    if not hasattr(cv2, "cuda") or not hasattr(cv2.cuda, "OpticalFlowDual_TVL1"):
        assert "absent" in next(iter(baseline_opencv(Workload())))
    if importlib.util.find_spec("vpi") is None:
        found = list(baseline_hardware(Workload()))
        assert found
        assert all("absent" in result for result in found)


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
