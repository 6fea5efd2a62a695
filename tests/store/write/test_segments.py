from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from flowkit import jpeg
from flowkit.errors import StoreCorruptError, StoreError
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.store import open_store
from flowkit.store.record import SourceFingerprint, VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.segments import assemble, committed_segments, frames_of_segment
from tests.store.conftest import make_flow, make_frames, make_options, make_record, write_part


def write_segments(parts: PartsFolder, options: StoreOptions, sizes: list[int]) -> VideoRecord:
    """Commit segments of a video of sum(sizes) frames; segment k has seed k."""
    start = 0
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        n_flow = size - options.step if last else size
        record = make_record(
            "a/b", n_frames=size, n_flow=n_flow, flow_max_px=float(index), clipped_fraction=index / 10
        )
        write_part(parts.segment_path("a/b", index), record, options, seed=index, first_pts=start / 25)
        start += size
    return make_record("a/b", n_frames=start, n_flow=start - options.step)


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
@pytest.mark.parametrize("frame_codec", ["jpeg", "none"])
def test_segments_join_as_if_written_at_once(store_path: Path, codec: str, frame_codec: str) -> None:
    field = FieldOptions(tvl1_preset="x", tvl1_params="{}")
    options = make_options(
        flow_codec=codec, frame_codec=frame_codec, fields=(field, dataclasses.replace(field, name="flow_b"))
    )
    parts = PartsFolder(store_path)
    whole = write_segments(parts, options, [3, 2, 4])
    record = assemble(parts, "a/b", 3, whole)
    assert (record.n_frames, record.n_flow, record.flow_max_px) == (9, 8, 2.0)
    assert record.clipped_fraction == pytest.approx((3 * 0 + 2 * 0.1 + 3 * 0.2) / 8)
    assert os.listdir(parts.path) == [parts.part_path("a/b").name]
    finalize(store_path, options=options)
    with open_store(store_path) as store:
        clip = store["a/b"]
        expected = np.concatenate([make_flow(0, 3), make_flow(1, 2), make_flow(2, 3)])
        if codec != "jpeg":
            assert np.abs(clip.flow() - expected).max() <= 0.125
        assert clip.flow(field="flow_b").shape == expected.shape
        assert np.allclose(clip.pts, np.arange(9) / 25)
        if frame_codec == "jpeg":
            assert clip.frames(range(9)).shape[0] == 9


def test_only_segments_of_the_same_source_and_options_are_trusted(store_path: Path) -> None:
    parts, options = PartsFolder(store_path), make_options()
    record = write_segments(parts, options, [3, 2])
    state = record.fingerprint
    assert list(committed_segments(parts, "a/b", options, state)) == [0, 1]
    assert not committed_segments(parts, "a", options, state)
    other = SourceFingerprint(name=state.name, bytes=state.bytes + 1, mtime_ns=0, sha256="")
    assert committed_segments(parts, "a/b", options, other) == {}
    write_segments(parts, options, [3, 2])
    assert committed_segments(parts, "a/b", make_options(step=2), state) == {}
    assert os.listdir(parts.path) == []


def test_damaged_segment_is_removed_so_that_it_is_redone(store_path: Path) -> None:
    parts, options = PartsFolder(store_path), make_options()
    record = write_segments(parts, options, [3, 2])
    path = parts.segment_path("a/b", 1)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"\xff\xd8\xff")  # the first JPEG
    raw[place + 700] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreCorruptError):
        assemble(parts, "a/b", 2, record)
    assert list(committed_segments(parts, "a/b", options, record.fingerprint)) == [0]


def test_missing_segment_is_reported(store_path: Path) -> None:
    parts = PartsFolder(store_path)
    record = write_segments(parts, make_options(), [3, 2])
    with pytest.raises(StoreError, match="s00002"):
        assemble(parts, "a/b", 3, record)


@pytest.mark.parametrize("frame_codec", ["jpeg", "none"])
def test_frames_of_a_segment_have_times_and_the_stored_images(store_path: Path, frame_codec: str) -> None:
    parts = PartsFolder(store_path)
    write_segments(parts, make_options(frame_codec=frame_codec), [3, 4])
    record, tail = frames_of_segment(parts, "a/b", 1, slice(-2, None))
    assert (record.video_id, record.n_frames) == ("a/b", 4)
    assert [seconds for seconds, _ in tail] == pytest.approx([5 / 25, 6 / 25])
    images = [image for _, image in tail]
    assert images == (
        [None] * 2 if frame_codec == "none" else [jpeg.encode(one) for one in make_frames(1, 4)[2:]]
    )
    _, head = frames_of_segment(parts, "a/b", 0, slice(1))
    assert [seconds for seconds, _ in head] == [0.0]


def test_a_segment_of_another_video_is_not_taken_for_one_of_this(store_path: Path) -> None:
    parts, options = PartsFolder(store_path), make_options()
    record = write_segments(parts, options, [3, 2])
    parts.segment_path("a/b", 0).rename(parts.segment_path("a/c", 0))
    with pytest.raises(StoreCorruptError, match="holds 'a/b', expected 'a/c'"):
        frames_of_segment(parts, "a/c", 0, slice(1))
    assert committed_segments(parts, "a/c", options, record.fingerprint) == {}


def test_frames_of_a_damaged_or_missing_segment_are_no_frames(store_path: Path) -> None:
    parts = PartsFolder(store_path)
    write_segments(parts, make_options(), [3, 4])
    path = parts.segment_path("a/b", 0)
    whole = path.read_bytes()
    place = whole.index(b"\xff\xd8\xff")  # the first JPEG
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(StoreCorruptError):
        frames_of_segment(parts, "a/b", 0, slice(1))
    path.unlink()
    with pytest.raises(StoreError):
        frames_of_segment(parts, "a/b", 0, slice(1))
