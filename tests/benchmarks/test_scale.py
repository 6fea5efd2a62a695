"""A small store of the benchmark at scale: made, complete, and read by its probes."""

from __future__ import annotations

from pathlib import Path

import flowkit
from benchmarks import scale
from benchmarks.tiny_store import HEIGHT, WIDTH
from flowkit.extraction.run import prepare
from flowkit.extraction.sources import find_sources


def test_made_stores_are_sound_and_their_sources_are_those_of_the_records(tmp_path: Path) -> None:
    stores = scale.make_all(tmp_path, videos=6, stores=2, jobs=1)
    merged = flowkit.merge(stores, tmp_path / "one.h5")
    assert len(merged.records) == 6
    assert flowkit.verify(tmp_path / "one.h5", deep=True).sound
    plan = prepare(find_sources([tmp_path / "videos"]), tmp_path / "one.h5").plan
    assert (len(plan.stored), len(plan.todo), len(plan.changed)) == (6, 0, 0)
    assert scale.make_all(tmp_path, videos=6, stores=2, jobs=1) == stores


def test_probes_read_the_store_and_plan_the_list(tmp_path: Path) -> None:
    stores = scale.make_all(tmp_path, videos=6, stores=2, jobs=1)
    flowkit.merge(stores, tmp_path / "one.h5")
    scale.write_lists(tmp_path, videos=6, paths=9)
    first = scale.PROBES["first clip"](tmp_path / "one.h5")
    assert first["shapes"] == [[1, 2, HEIGHT, WIDTH], [1, HEIGHT, WIDTH, 3]]
    planned = scale.PROBES["plan of a list"](tmp_path / "one.h5")
    assert (planned["paths"], planned["stored"], planned["todo"]) == (9, 6, 3)
