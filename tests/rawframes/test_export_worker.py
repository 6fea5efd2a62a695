"""One unit in a worker: written whole, identified by its sources, counted."""

from __future__ import annotations

import dataclasses
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import InputError, StoreCorruptError
from flowkit.executor import InlineExecutor
from flowkit.rawframes.destination import Marker
from flowkit.rawframes.export import ExportConfig, prepare
from flowkit.rawframes.export_worker import (
    ExportOutcome,
    Member,
    Unit,
    failed_unit,
    from_marker,
    write_unit,
)
from flowkit.rawframes.lists import ListedClip
from flowkit.remote import Location
from flowkit.store.record import Failure
from tests.rawframes.conftest import (
    HEIGHT,
    WIDTH,
    MakeStore,
    contents,
    make_record,
    names_in,
    run_export,
)


def units_of(store: Location, dest: Path, **choices: object) -> tuple[Unit, ...]:
    return prepare(store, dest, ExportConfig(**choices)).todo  # type: ignore[arg-type]


def write(unit: Unit) -> ExportOutcome:
    """Write a unit in this process."""
    with InlineExecutor() as executor:
        (outcome,) = executor.run(write_unit, [unit])
    assert outcome.result is not None
    return outcome.result


def test_a_clip_that_changed_in_the_store_replaces_its_folder(make_store: MakeStore, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    run_export(make_store({"a": 5}), dest)
    (tmp_path / "out.h5").unlink()
    report = run_export(make_store({"a": 3}), dest)
    assert [outcome.status for outcome in report.outcomes] == ["exported"]
    assert "img_00004.jpg" not in names_in(dest / "a")


@pytest.mark.parametrize("layout", ["tsn", "flo", "npy"])
def test_a_written_folder_is_counted_and_done(make_store: MakeStore, tmp_path: Path, layout: str) -> None:
    (unit,) = units_of(make_store({"walk/a": 4}), tmp_path / "out", layout=layout)
    outcome = write(unit)
    files = contents(tmp_path / "out")
    assert (outcome.name, outcome.video_ids, outcome.status) == ("walk/a", ("walk/a",), "exported")
    assert (outcome.n_frames, outcome.n_flow) == (4, 3)
    assert (outcome.files, outcome.bytes) == (len(files), sum(map(len, files.values())))
    assert outcome.values == (3 * 2 * HEIGHT * WIDTH if layout == "tsn" else 0)
    assert {Path(name).parent for name in files} == {Path("walk/a")}
    assert units_of(unit.store, tmp_path / "out", layout=layout) == ()


@pytest.mark.parametrize(
    ("layout", "members"),
    # json and cls, and two streams, or the images: 3 + 4 and 2 + 2.
    [("webdataset", (2 + 2, 2 + 2)), ("webdataset-images", (2 + 7, 2 + 4))],
)
def test_a_shard_has_its_clips_one_after_the_other(
    make_store: MakeStore, tmp_path: Path, layout: str, members: tuple[int, int]
) -> None:
    store = make_store({"walk/a": 3, "run/b": 2})
    (unit,) = units_of(store, tmp_path / "out", layout=layout)
    outcome = write(unit)
    path = tmp_path / "out/clips-000000.tar"
    assert (outcome.files, outcome.bytes, outcome.n_frames) == (1, path.stat().st_size, 5)
    with tarfile.open(path) as tar:
        clips = [member.name.partition(".")[0] for member in tar]
    assert clips == [name for video_id in unit.members for name in [video_id] * clips.count(video_id)]
    assert (clips.count("walk/a"), clips.count("run/b")) == members


def test_a_unit_that_fails_midway_leaves_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 4})
    with flowkit.open(store) as opened:
        chunk = opened.stored_video("a").frames[2]
    data = bytearray(store.read_bytes())
    data[data.index(chunk) + 30] ^= 1
    store.write_bytes(data)
    (unit,) = units_of(store, tmp_path / "out")
    with pytest.raises(StoreCorruptError, match="CRC"):
        write(unit)
    assert contents(tmp_path / "out") == {}
    assert names_in(tmp_path / "out/.flowkit-export/partial") == []


def test_a_path_that_exists_is_not_written_over(make_store: MakeStore, tmp_path: Path) -> None:
    (unit,) = units_of(make_store({"a": 3}), tmp_path / "out")
    (tmp_path / "out/a").mkdir(parents=True)
    with pytest.raises(InputError, match="exists and was not written by an export"):
        write(unit)
    assert names_in(tmp_path / "out/a") == []


def test_a_store_whose_file_was_replaced_is_opened_again(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3}, flow_codec="i16")
    (unit,) = units_of(store, tmp_path / "one", layout="npy")
    write(unit)
    store.unlink()
    make_store({"a": 3}, flow_codec="i16", px=8.0)
    os.utime(store, (1, 1))
    write(dataclasses.replace(unit, destination=tmp_path / "two"))
    first, second = (np.load(tmp_path / name / "a/flow.npy") for name in ("one", "two"))
    # The same noise at twice the size; i16 has steps of at most 1/64 px.
    np.testing.assert_allclose(second, 2 * first, atol=3 / 64)
    assert np.abs(second).max() > 1.5 * np.abs(first).max()


def test_progress_is_reported_within_a_long_clip(make_store: MakeStore, tmp_path: Path) -> None:
    (unit,) = units_of(make_store({"a": 40}), tmp_path / "out", content="frames")
    with InlineExecutor() as executor:
        write_unit(unit, executor._worker)
        frames, fraction = executor.board.progress(0)
    assert 16 <= frames <= 40
    assert fraction == frames / 40


def make_unit(unit: Unit, **changes: object) -> Unit:
    """Return the unit of one clip, something of the clip changed."""
    ((video_id, member),) = unit.members.items()
    return dataclasses.replace(unit, members={video_id: dataclasses.replace(member, **changes)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"source_bytes": 1},
        {"source_mtime_ns": 99},
        {"source_sha256": "f" * 64},
        {"n_flow": 1},
        {"width": 8},
        {"height": 8},
        {"backend": "cuda"},
    ],
)
def test_another_source_makes_another_unit(
    make_store: MakeStore, tmp_path: Path, changes: dict[str, object]
) -> None:
    (unit,) = units_of(make_store({"a": 3}), tmp_path / "out")
    record = unit.members["a"].record
    other = make_unit(unit, record=dataclasses.replace(record, **changes))  # type: ignore[arg-type]
    assert other.made_of() != unit.made_of()


def test_the_number_of_a_class_is_part_of_shards_only(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"walk/a": 3})
    for layout, differs in (("tsn", False), ("webdataset", True)):
        (unit,) = units_of(store, tmp_path / layout, layout=layout)
        assert (make_unit(unit, label=5).made_of() != unit.made_of()) == differs


def test_a_member_has_its_entry_for_lists() -> None:
    member = Member(record=make_record("walk/a", 5, 4, 0), label=2)
    assert member.entry("walk/a") == ListedClip(path="walk/a", n_frames=5, n_flow=4, label=2)


@pytest.mark.parametrize(
    ("clipped", "warnings"),
    [
        (0, ()),
        (10, ()),
        (11, ("1.1% of the flow is beyond the bound",)),
        (1000, ("100.0% of the flow is beyond the bound",)),
    ],
)
def test_more_than_a_hundredth_clipped_is_a_warning(clipped: int, warnings: tuple[str, ...]) -> None:
    outcome = ExportOutcome(name="a", video_ids=("a",), status="exported", clipped=clipped, values=1000)
    assert outcome.clipped_fraction == clipped / 1000
    assert outcome.warnings == warnings


def test_an_outcome_without_flow_has_no_clipped_fraction() -> None:
    outcome = ExportOutcome(name="a", video_ids=("a",), status="exported", n_frames=3)
    assert outcome.clipped_fraction == 0.0
    assert outcome.failure is None


def test_outcomes_of_a_failure_and_of_a_marker_name_the_units_clips(
    make_store: MakeStore, tmp_path: Path
) -> None:
    (unit,) = units_of(make_store({"walk/a": 3, "b": 2}), tmp_path / "out", layout="webdataset")
    failed = failed_unit(unit, "refused", "it cannot be")
    assert failed.failure == Failure(source="clips-000000.tar", reason="refused", detail="it cannot be")
    # A marker of another version may lack a count.
    marker = Marker(name=unit.name, made_of={}, files=1, bytes=9, facts={"n_frames": 5, "n_flow": 3})
    there = from_marker(unit, marker, "already_exported")
    assert set(there.video_ids) == set(failed.video_ids) == {"walk/a", "b"}
    assert (there.n_frames, there.n_flow, there.clipped, there.values) == (5, 3, 0, 0)
    assert (there.status, there.files, there.bytes) == ("already_exported", 1, 9)
