"""A sample of the disruption campaign; benchmarks/disruption_campaign.py has every scenario."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.disruption_campaign import campaign, table
from benchmarks.disruption_cuts import cut
from benchmarks.disruptions import Ended, told

SCENARIOS = ("kill-all", "store-gone", "cut")


@pytest.mark.slow
def test_a_sample_of_the_scenarios_costs_nothing_that_was_finished() -> None:
    result = campaign(SCENARIOS, repeats=1, cuts=4)
    assert result["faults"] == []
    assert [len(result["scenarios"][name]) for name in SCENARIOS] == [1, 1, 1]
    assert all(result["scenarios"][name][0]["equal"] for name in SCENARIOS[:2])
    assert result["scenarios"]["cut"][0]["cuts"] == 4
    assert len(table(result).splitlines()) == 2 + len(SCENARIOS)


@pytest.mark.parametrize(
    ("status", "stderr", "faults"),
    [
        (2, "flowkit: the disk is full\n", 0),
        (-9, "", 0),
        (1, "it ends\n", 1),
        (2, "flowkit: a word\nTraceback (most recent call last):\n", 1),
    ],
)
def test_tracebacks_and_statuses_without_a_word_are_faults(status: int, stderr: str, faults: int) -> None:
    ended = Ended(status=status, stderr=stderr, stored=frozenset(), seconds=1.0)
    assert len(told(ended)) == faults


def test_a_cut_store_is_shorter_and_its_source_is_not(tmp_path: Path) -> None:
    source, target = tmp_path / "reference.h5", tmp_path / "cut" / "out.h5"
    source.write_bytes(bytes(100))
    where = cut(source, target, random.Random(0))
    size = target.stat().st_size
    assert where == f"reference: out.h5 at {size} of 100"
    assert size < len(source.read_bytes()) == 100
