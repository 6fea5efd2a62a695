"""The index read in blocks: every row and column as it was written, whatever the size of a block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreCorruptError, StoreFormatError
from flowkit.store import video_table
from flowkit.store.index import row_record, write_index, write_table
from flowkit.store.record import Columns, VideoRecord
from flowkit.store.video_table import VideoTable
from tests.store.conftest import make_record


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "x.h5", "w") as opened:
        yield opened


@pytest.fixture(params=[1, 700, 1 << 16])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(video_table, "_BLOCK_BYTES", request.param)
    monkeypatch.setattr(video_table, "_READ_BLOCKS", 3)
    return int(request.param)


def records(count: int) -> dict[str, VideoRecord]:
    made = [
        dataclasses.replace(
            make_record(f"{'xy'[k % 2]}/ü{k}", n_frames=k + 2, n_flow=k + 1, flow_max_px=float(k)),
            status="truncated" if k == 3 else "ok",
        )
        for k in range(count)
    ]
    return {record.video_id: record for record in made}


def test_rows_and_columns_are_those_that_were_written(file: h5py.File, block_bytes: int) -> None:
    written = records(20)
    write_index(file, written, {video_id: k % 3 for k, video_id in enumerate(written)})
    table = VideoTable(file)
    assert (len(table), list(table.rows)) == (20, list(written))
    for video_id in [*written][::-3]:
        assert row_record(table.row(file, table.rows[video_id])) == written[video_id]
    assert table.column(file, "label").tolist() == [record.label.encode() for record in written.values()]
    assert table.kept["shard"].tolist() == [k % 3 for k in range(20)]
    assert table.column(file, "n_frames").tolist() == [k + 2 for k in range(20)]


def test_sums_are_over_all_rows_but_those_of_missing_shards(file: h5py.File, block_bytes: int) -> None:
    written = records(7)
    write_index(file, written, {video_id: k % 2 for k, video_id in enumerate(written)})
    table = VideoTable(file)
    assert table.sums(file) == {
        "n_videos": 7,
        "n_frames": sum(range(2, 9)),
        "n_flow": sum(range(1, 8)),
        "per_label": {"x": 4, "y": 3},
        "per_status": {"ok": 6, "truncated": 1},
        "per_backend": {"cpu": 7},
        "flow_max_px": 6.0,
    }
    without = table.sums(file, without_shards=frozenset({0}))
    assert (without["n_videos"], without["per_label"], without["flow_max_px"]) == (3, {"y": 3}, 5.0)


def test_an_empty_index_has_no_rows_and_sums_of_zero(file: h5py.File) -> None:
    write_index(file, {}, {})
    table = VideoTable(file)
    found = table.sums(file)
    assert (len(table), table.rows, table.column(file, "label").tolist()) == (0, {}, [])
    assert (found["n_videos"], found["n_frames"], found["flow_max_px"], found["per_label"]) == (0, 0, 0.0, {})


@pytest.mark.parametrize("raw", [b"", b"/a", b"a/", b"a//b", b"./a", b"a/..", b"a/./b", b"\xff", b"a\0b"])
def test_an_impossible_id_is_refused(file: h5py.File, raw: bytes) -> None:
    columns: Columns = {"id": str, "n_frames": int, "n_flow": int}
    made = write_table(file, "index", columns, [{"id": "ab/cd", "n_frames": 1, "n_flow": 0}] * 3)
    rows = made[()]
    rows["id"][0], rows["id"][1], rows["id"][2] = b"x", raw, b"z"
    del file["index"]
    file.create_group("index").create_dataset("videos", data=rows)
    with pytest.raises(StoreFormatError, match=r"the index of .*x.h5 has an impossible id: "):
        VideoTable(file, columns)


def test_an_id_that_only_looks_odd_is_taken(file: h5py.File) -> None:
    written = {name: make_record(name) for name in (".../a", "a/..b", ".c", "d.", "e\nf")}
    write_index(file, written, {})
    assert list(VideoTable(file).rows) == list(written)


def test_an_id_twice_is_refused(file: h5py.File) -> None:
    columns: Columns = {"id": str}
    file.create_group("index")
    write_table(file["index"], "videos", columns, [{"id": "a"}, {"id": "b"}, {"id": "a"}])
    with pytest.raises(StoreFormatError, match="has an id twice"):
        VideoTable(file, columns)


def test_a_flipped_byte_is_found_at_once_and_one_that_flips_later_when_its_row_is_read(
    file: h5py.File, block_bytes: int
) -> None:
    written = records(9)
    write_index(file, written, {})
    table = VideoTable(file)
    node = file["index/videos"]
    rows = node[()]
    sound = rows.copy()
    rows["label"][4] = b"z"
    node[...] = rows
    with pytest.raises(StoreCorruptError, match="fails its CRC"):
        VideoTable(file)
    with pytest.raises(StoreCorruptError, match="has changed while it was open; open it again"):
        table.row(file, 4)
    with pytest.raises(StoreCorruptError, match="has changed while it was open"):
        table.column(file, "label")
    node[...] = sound
    assert table.row(file, 4)["label"] == b"x"
    np.testing.assert_array_equal(table.column(file, "id"), sound["id"])
