"""Summaries of a store's videos: motion, a small image, or the reason why there is none."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import flowkit
from flowkit.distribution import Distribution
from flowkit.errors import InvalidParameterError
from flowkit.typing import UInt8
from flowkit.view.summary import SummaryConfig, VideoSummary, config_for, default_jobs, summarise
from tests.make import stores


def summaries(
    path: Path, config: SummaryConfig | None = None, *, jobs: int = 1
) -> tuple[dict[str, VideoSummary], Distribution]:
    """Rows by id, and the sum of the distributions."""
    rows: dict[str, VideoSummary] = {}
    speeds = Distribution()
    with flowkit.open(path) as store:
        for batch, measured in summarise(store, config or SummaryConfig(), jobs=jobs):
            rows |= {row.video_id: row for row in batch}
            speeds.merge(measured)
    return rows, speeds


def picture(webp: bytes) -> UInt8:
    """Decode a thumbnail to RGB."""
    image = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_a_small_store_is_summarised_in_this_process_and_a_large_one_on_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    with flowkit.open(path) as store:
        assert default_jobs(store) == 1
        monkeypatch.setattr("flowkit.view.summary._SMALL_STORE_BYTES", path.stat().st_size)
        assert default_jobs(store) == 3


def test_settings_outside_their_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="most_fields"):
        SummaryConfig(most_fields=0)
    with pytest.raises(InvalidParameterError, match="thumbnail_quality"):
        SummaryConfig(thumbnail_quality=0)
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    with flowkit.open(path) as store, pytest.raises(InvalidParameterError, match="flow_backward"):
        list(summarise(store, SummaryConfig(field="flow_backward")))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"most_fields": 0}, "most_fields must be >= 1, got 0"),
        ({"thumbnail_height": -1}, r"thumbnail_height must be in \[0, 1024\] px, got -1"),
        ({"thumbnail_height": 1025}, r"thumbnail_height must be in \[0, 1024\] px, got 1025"),
        ({"thumbnail_quality": 101}, r"thumbnail_quality must be in \[1, 100\], got 101"),
    ],
)
def test_a_refusal_has_the_range_and_the_value(choices: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        SummaryConfig(**choices)  # type: ignore[arg-type]


def test_a_large_store_has_smaller_images_and_the_same_measurements() -> None:
    few = config_for(2000, field="flow_backward", most_fields=3)
    many = config_for(2001, field="flow_backward", most_fields=3)
    assert few == SummaryConfig(field="flow_backward", most_fields=3)
    assert (many.field, many.most_fields) == ("flow_backward", 3)
    assert many.thumbnail_height < few.thumbnail_height
    assert many.thumbnail_quality < few.thumbnail_quality


def test_each_video_has_its_record_and_motion(tmp_path: Path) -> None:
    videos = {"a": stores.steady(3, 3, 4), "b/c": stores.steady(2, 0, 1)}
    rows, speeds = summaries(stores.write_store(tmp_path / "s.h5", videos))
    assert list(rows) == ["a", "b/c"]
    for name, (n_flow, px) in {"a": (3, 5.0), "b/c": (2, 1.0)}.items():
        record, motion = rows[name].record, rows[name].motion
        assert record is not None
        assert motion is not None
        assert (record.video_id, record.n_flow, motion.n_fields) == (name, n_flow, n_flow)
        # Codes of a field of one vector are exact; float32 rounds the root.
        assert motion.mean_px == pytest.approx(px, abs=1e-6)
        assert rows[name].problem == ""
    assert speeds.count == (3 + 2) * 12 * 20
    assert speeds.mean == pytest.approx((3 * 5 + 2 * 1) / 5, abs=1e-6)


def test_only_so_many_fields_are_measured_as_asked_for(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(9, 0), "b": stores.noise(2, 1)})
    rows, speeds = summaries(path, SummaryConfig(most_fields=3))
    measured = {name: row.motion.fields for name, row in rows.items() if row.motion}
    assert {name: len(fields) for name, fields in measured.items()} == {"a": 3, "b": 2}
    assert speeds.count == 5 * 12 * 20


def test_the_thumbnail_has_a_frame_beside_its_flow(tmp_path: Path) -> None:
    videos = {"a": stores.steady(3, 4, 0)}
    with_frames = picture(summaries(stores.write_store(tmp_path / "a.h5", videos))[0]["a"].thumbnail)
    alone = picture(summaries(stores.write_store(tmp_path / "b.h5", videos, frames=False))[0]["a"].thumbnail)
    # 20 x 12 px at a height of 72 px are 120 px wide.
    assert alone.shape == (72, 120, 3)
    assert with_frames.shape == (72, 240, 3)
    # Grey of level 10 to 12 on the left, colour on the right. WebP of quality 60 moves flat areas by a few
    # levels.
    assert np.abs(with_frames[:, 4:110].astype(int) - 11).max() < 10
    assert with_frames[:, 130:].astype(int).std(axis=2).min() > 20
    assert np.abs(with_frames[:, 130:].astype(int) - alone[:, 10:]).max() < 10


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(12, 20, (40, 67)), (8, 64, (40, 80)), (64, 8, (40, 5))]
)
def test_a_thumbnail_keeps_the_aspect_and_is_at_most_twice_as_wide_as_high(
    tmp_path: Path, height: int, width: int, expected: tuple[int, int]
) -> None:
    videos = {"a": stores.steady(1, 4, 0, height=height, width=width)}
    path = stores.write_store(tmp_path / "s.h5", videos, frames=False)
    rows, _ = summaries(path, SummaryConfig(thumbnail_height=40))
    assert picture(rows["a"].thumbnail).shape[:2] == expected


@pytest.mark.parametrize(
    ("moves_px", "shown"),
    [
        # In order 0, 0, 0, 4, 20: three quarters of the way up is 4 px, not the jump of 20.
        ([0, 20, 0, 4, 0], 3),
        # Three quarters of the way up are still fields, of which the earlier come first.
        ([0, 20, 0, 4, 0, 0, 0, 0, 0], 7),
    ],
)
def test_the_thumbnail_shows_the_field_that_moves_more_than_three_quarters_of_them(
    tmp_path: Path, moves_px: list[int], shown: int
) -> None:
    flow = np.concatenate([stores.steady(1, u, 0) for u in moves_px])
    rows, _ = summaries(stores.write_store(tmp_path / "s.h5", {"a": flow}))
    # Frame k is grey of level 10 + k, to which WebP keeps within a level.
    assert float(np.median(picture(rows["a"].thumbnail)[:, :110])) == pytest.approx(10 + shown, abs=0.9)


def test_no_thumbnail_where_none_is_asked_for_or_there_is_no_flow(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(2, 0), "none": stores.steady(0, 0, 0)})
    assert [row.thumbnail for row in summaries(path, SummaryConfig(thumbnail_height=0))[0].values()] == [
        b"",
        b"",
    ]
    rows, _ = summaries(path)
    assert rows["a"].thumbnail[8:12] == b"WEBP"
    assert (rows["none"].thumbnail, rows["none"].problem) == (b"", "")
    assert rows["none"].motion is not None
    assert rows["none"].motion.n_fields == 0


def test_a_damaged_video_has_its_reason_and_adds_nothing(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(3, 0), "b": stores.noise(3, 1)})
    with h5py.File(path) as file:
        where = file["videos/a/flow"].id.get_chunk_info(1).byte_offset + 7
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(data)
    rows, speeds = summaries(path)
    assert "CRC" in rows["a"].problem
    assert rows["a"].record is not None
    assert (rows["a"].motion, rows["a"].thumbnail) == (None, b"")
    assert rows["b"].problem == ""
    assert speeds.count == 3 * 12 * 20


def test_worker_processes_give_the_rows_of_one_process(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {f"v{k:02}": stores.noise(2, k) for k in range(19)})
    alone, speeds = summaries(path)
    shared, shared_speeds = summaries(path, jobs=2)
    assert sorted(shared) == list(alone) == [f"v{k:02}" for k in range(19)]
    assert shared == alone
    assert (shared_speeds.count, shared_speeds.max) == (speeds.count, speeds.max)


def test_a_field_that_the_store_lacks_is_refused_and_the_known_named(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(1, 1, 0)})
    with pytest.raises(InvalidParameterError) as caught:
        summaries(path, SummaryConfig(field="other"))
    assert str(caught.value) == f"Invalid field ('other'). Supported values in {path} are flow"
