"""Damaged videos: a sample of benchmarks/mutation_campaign.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import mutation_campaign
from tests.make import mutations


@pytest.mark.slow
def test_damaged_videos_are_stored_or_fail_for_a_reason_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "sound").mkdir()
    (tmp_path / "batch").mkdir()
    files = mutations.originals(tmp_path / "sound")
    count = len(files) * len(mutations.KINDS)  # every file is damaged in every way
    for name, data in mutations.mutants(files, count, seed=1):
        (tmp_path / "batch" / name).write_bytes(data)
    found = mutation_campaign.run_batch(tmp_path / "batch", "av")
    assert found["faults"] == []
    assert sum(found["reasons"].values()) == count
    assert found["reasons"]["stored"] > count // 3
    assert 0 < found["memory_bytes"] < mutation_campaign.MEMORY_BOUND_BYTES


def test_damage_depends_on_the_seed_alone(tmp_path: Path) -> None:
    files = [tmp_path / "a.mp4", tmp_path / "b.mkv"]
    for path in files:
        path.write_bytes(bytes(range(256)) * 20)
    first = list(mutations.mutants(files, 24, seed=3))
    assert first == list(mutations.mutants(files, 24, seed=3))
    assert first != list(mutations.mutants(files, 24, seed=4))
    assert {name.split("_")[1] for name, _ in first} == set(mutations.KINDS)
    assert sum(data != files[0].read_bytes() for _, data in first) > 20
