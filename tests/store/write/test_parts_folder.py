from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import atomic
from flowkit.errors import StoreBusyError, StoreCorruptError, StoreError
from flowkit.store.inventory import inventory, read_part
from flowkit.store.reader import open_store
from flowkit.store.schema import FieldOptions, SourceFingerprint, StoreOptions, VideoRecord
from flowkit.store.write.pack import finalize
from flowkit.store.write.parts_folder import PartsFolder, part_key
from tests.store.conftest import MakePart, make_flow, make_options, make_record, write_part

IDS = st.lists(st.text("aA.~%/ü é\n0", min_size=1, max_size=200), min_size=2, max_size=4, unique=True)


def valid(video_id: str) -> bool:
    return all(segment not in ("", ".", "..") for segment in video_id.split("/"))


@given(IDS)
def test_keys_are_file_names_and_tell_ids_apart(ids: list[str]) -> None:
    keys = [part_key(video_id) for video_id in ids if valid(video_id)]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key and len(key) <= 150 and key.isascii() for key in keys)


def test_no_id_looks_like_the_segment_of_another(store_path: Path) -> None:
    parts = PartsFolder(store_path)
    assert parts.part_path("a~s00000") != parts.segment_path("a", 0)


def test_second_writer_is_told_who_writes(store_path: Path) -> None:
    first, second = PartsFolder(store_path), PartsFolder(store_path)
    with first.lock(), pytest.raises(StoreBusyError, match=f"process {os.getpid()}"), second.lock():
        pass
    with second.lock():
        assert second.path.is_dir()
    assert not second.path.exists()


def test_lock_stays_with_parts_that_are_there(store_path: Path, make_part: MakePart) -> None:
    make_part("a")
    with PartsFolder(store_path).lock():
        pass
    assert inventory(store_path).records.keys() == {"a"}
    with PartsFolder(store_path).lock():
        pass


def test_file_systems_without_locks_are_told_of(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.warns(RuntimeWarning, match="without locks"), PartsFolder(store_path).lock():
        pass


def test_only_temporaries_of_dead_processes_are_removed(store_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    parts = PartsFolder(store_path)
    parts.path.mkdir()
    host = atomic.host_name()
    dead = [
        parts.path / f"a.h5.{host}.{child.pid}.tmp",
        store_path.with_name(f"out.h5.{host}.{child.pid}.tmp"),
    ]
    kept = [parts.path / f"b.h5.elsewhere.{child.pid}.tmp", parts.path / f"c.h5.{host}.{os.getppid()}.tmp"]
    other = store_path.with_name(f"other.h5.{host}.{child.pid}.tmp")
    for path in [*dead, *kept, other]:
        path.touch()
    sweep = parts.remove_dead_temporaries()
    assert set(sweep.removed) == set(dead)
    assert set(sweep.kept) == set(kept)
    assert other.exists()
    assert not any(path.exists() for path in dead)


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


@pytest.mark.parametrize("codec", ["i8", "i16", "jpeg"])
@pytest.mark.parametrize("frame_codec", ["jpeg", "none"])
def test_segments_join_as_if_written_at_once(store_path: Path, codec: str, frame_codec: str) -> None:
    field = FieldOptions(tvl1_preset="x", tvl1_params="{}")
    options = make_options(
        flow_codec=codec, frame_codec=frame_codec, fields=(field, dataclasses.replace(field, name="flow_b"))
    )
    parts = PartsFolder(store_path)
    whole = write_segments(parts, options, [3, 2, 4])
    record = parts.assemble("a/b", 3, whole)
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
    assert list(parts.committed_segments("a/b", options, state)) == [0, 1]
    assert not parts.committed_segments("a", options, state)
    other = SourceFingerprint(name=state.name, bytes=state.bytes + 1, mtime_ns=0, sha256="")
    assert parts.committed_segments("a/b", options, other) == {}
    write_segments(parts, options, [3, 2])
    assert parts.committed_segments("a/b", make_options(step=2), state) == {}
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
        parts.assemble("a/b", 2, record)
    assert list(parts.committed_segments("a/b", options, record.fingerprint)) == [0]


def test_missing_segment_is_told(store_path: Path) -> None:
    parts = PartsFolder(store_path)
    record = write_segments(parts, make_options(), [3, 2])
    with pytest.raises(StoreError, match="s00002"):
        parts.assemble("a/b", 3, record)


def test_part_of_several_videos_is_none(store_path: Path, make_part: MakePart) -> None:
    make_part("a")
    make_part("b")
    finalize(store_path, options=make_options())
    with pytest.raises(StoreCorruptError, match="2 videos"):
        read_part(store_path)
