"""The example of RAFT, with random weights: from a video to a field beside TV-L1's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import BackendUnavailableError
from flowkit.extraction.config import ExtractConfig
from flowkit.methods import flow_method
from tests.make.small import NATIVE, run


def need_torchvision() -> None:
    pytest.importorskip("torch")
    try:
        importlib.import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"torchvision does not import: {error}")


@pytest.mark.slow
def test_raft_lies_beside_tvl1_in_one_store(
    videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_torchvision()
    monkeypatch.setenv("RAFT_WEIGHTS", "random")
    fields = (("flow_raft", "examples.raft:small"),)
    report = run(videos, store, ExtractConfig(resize=NATIVE, jobs=1, more_fields=fields))
    assert report.stored == 2
    with flowkit.open(store) as opened:
        field = opened.options.fields[1]
        assert (field.name, field.method) == ("flow_raft", "examples.raft:small")
        assert '"weights": "random"' in field.tvl1_params
        flow = opened["drift/one"].flow(field="flow_raft")
    assert flow.shape == (5, 2, 48, 64)
    assert np.abs(flow).max() > 0


def test_raft_without_weights_is_refused_before_the_first_video(monkeypatch: pytest.MonkeyPatch) -> None:
    need_torchvision()
    monkeypatch.setenv("RAFT_WEIGHTS", "nowhere.pth")
    monkeypatch.delitem(sys.modules, "examples.raft", raising=False)
    with pytest.raises(
        BackendUnavailableError, match=r"RAFT_WEIGHTS must be a file of .*, got 'nowhere.pth'"
    ):
        flow_method("examples.raft:large")
