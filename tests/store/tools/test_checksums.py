"""A store checked by its checksums: every byte, a sample, and what has no checksum of the whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import InvalidParameterError, StoreError
from flowkit.executor import InlineExecutor, LocalExecutor
from flowkit.store.addresses import stored_ranges
from flowkit.store.file_crc import stamp
from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import shards_path
from flowkit.store.tools import checksums
from flowkit.store.tools import verify as verify_module
from flowkit.store.tools.check_file import check_file
from flowkit.store.tools.verify import verify
from tests.make.stores import make_format_1_0
from tests.store.conftest import MakeStore, make_options
from tests.store.tools.deadly_check import check_or_die

WHOLE = 1 << 30
"""Bytes of a shard that one file does not reach."""


def places(path: Path, count: int) -> list[int]:
    """Return some places of a file, every tenth of it among them."""
    size = path.stat().st_size
    return [*range(0, size, max(1, size // 10)), *random.Random(0).sample(range(size), count)]


def flipped(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << (at % 8)
    path.write_bytes(raw)


@pytest.mark.parametrize("codec", ["q8", "i16", "jpeg"])
@pytest.mark.parametrize("shard_bytes", [1, WHOLE])
def test_one_flipped_byte_anywhere_is_found(make_store: MakeStore, codec: str, shard_bytes: int) -> None:
    path = make_store("a", "b", "c", options=make_options(flow_codec=codec), shard_bytes=shard_bytes)
    files = [path, *sorted(shards_path(path).glob("*.h5"))]
    assert len(files) == (1 if shard_bytes == WHOLE else 4)
    missed = []
    for file in files:
        raw = file.read_bytes()
        for at in places(file, 12):
            flipped(file, at)
            try:
                if verify(path).sound:
                    missed.append((file.name, at))
            except StoreError:  # it cannot be opened
                pass
            file.write_bytes(raw)
    assert missed == []
    assert verify(path).sound


def test_a_flipped_chunk_is_named_as_decoding_names_it(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    with h5py.File(path) as file:
        at = int(file["index/flow_addr"][4])  # the second field of b
    flipped(path, at)
    quick, deep = verify(path), verify(path, deep=True)
    assert list(quick.videos) == ["b"]
    assert quick.videos == deep.videos
    assert (quick.n_videos, quick.n_checked, quick.n_decoded) == (2, 2, 1)
    assert (deep.n_checked, deep.n_decoded) == (2, 2)


def test_bytes_that_are_sound_when_read_again_are_said_to_differ(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store("a", "b")
    read = checksums._read
    monkeypatch.setattr(checksums, "_read", lambda *args: bytes(len(read(*args))))
    report = verify(path)
    assert report.videos == dict.fromkeys("ab", ("its bytes differ from their checksums",))


def stamped(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a file and give it a checksum that holds, as whoever made it so would."""
    with h5py.File(path, "r+") as file:
        change(file)
    with open_file(path) as file:
        ranges = stored_ranges(file, file.metadata.options)
    stamp(path, np.maximum(ranges, 0))


def test_an_address_before_the_file_is_a_fault_of_its_video(make_store: MakeStore) -> None:
    path = make_store("a", "b")

    def change(file: h5py.File) -> None:
        file["index/flow_addr"][4] = -8

    stamped(path, change)
    report = verify(path)
    assert not report.sound
    assert not report.unreadable
    assert "b" in report.videos


def test_a_malformed_index_under_a_checksum_that_holds_is_reported(make_store: MakeStore) -> None:
    path = make_store("a", "b")

    def change(file: h5py.File) -> None:
        del file["index/flow_scale"]

    stamped(path, change)
    report = verify(path)
    assert not report.sound
    assert report.n_decoded == 2
    assert any("flow_scale" in problem for problem in report.store)


@pytest.mark.parametrize("shard_bytes", [1, WHOLE])
def test_a_sound_store_is_not_decoded(
    make_store: MakeStore, shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    monkeypatch.setattr(verify_module, "check_file", None)
    assert verify(path).sound


@pytest.mark.parametrize("kind", ["1.0", "written anew"])
def test_what_has_no_checksum_of_the_whole_is_decoded(make_store: MakeStore, kind: str) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        if kind == "1.0":
            make_format_1_0(file)
        else:
            file.attrs["note"] = np.arange(100)
    report = verify(path)
    assert report.sound
    assert (report.n_checked, report.n_decoded) == (2, 2)


def test_a_sample_is_drawn_by_chance_and_may_miss_a_chunk_but_nothing_outside(make_store: MakeStore) -> None:
    ids = [f"v{k}" for k in range(10)]
    path = make_store(*ids)
    with h5py.File(path) as file:
        at = int(file["index/frame_addr"][0])
    before = path.read_bytes()
    flipped(path, at)
    found = [verify(path, sample=0.5) for _ in range(40)]
    assert {one.n_checked for one in found} == {5}
    assert {one.sound for one in found} == {True, False}
    seen: list[float] = []
    assert verify(path, sample=0.01, on_progress=seen.append).n_checked == 1
    assert seen[-1] == 1
    assert verify(path, sample=0.3, deep=True).n_decoded == 3
    path.write_bytes(before)
    with h5py.File(path) as file:
        outside = file["index/file_crc32"].id.get_offset()
    flipped(path, outside)
    assert not verify(path, sample=0.1).sound


@pytest.mark.parametrize(("name", "value"), [("sample", 0.0), ("sample", 1.5), ("jobs", 0)])
def test_choices_out_of_range_are_refused(make_store: MakeStore, name: str, value: float) -> None:
    with pytest.raises(InvalidParameterError, match=name):
        verify(make_store("a"), **{name: value})  # type: ignore[arg-type]


def test_spans_hold_every_chunk_once_and_leave_wide_gaps_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "READ_BYTES", 100)
    rng = np.random.default_rng(0)
    size = rng.integers(1, 60, 50)
    start = np.cumsum(size) - size + np.where(np.arange(50) < 25, 0, 10**6)
    order = rng.permutation(50)
    chunks = checksums._Chunks(start[order], size[order], np.arange(50, dtype=np.uint32)[order], order)
    spans = list(chunks.spans())
    assert np.concatenate([one.start for one in spans]).tolist() == start.tolist()
    for one in spans:
        assert (one.start[-1] + one.size[-1] - one.start[0]) <= 100
        assert not (one.start[0] < 10**6 <= one.start[-1])


def test_workers_decode_what_one_process_decodes(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store(*(f"v{k:02}" for k in range(20)))
    with h5py.File(path) as file:
        addresses = file["index/frame_addr"][()]
    for number in (3, 18):
        flipped(path, int(addresses[4 * number]))
    alone = check_file(path)
    with LocalExecutor(2) as executor:
        shared = check_file(path, executor=executor)
    assert list(alone.videos) == ["v03", "v18"]
    assert shared == alone
    seen: list[float] = []
    with InlineExecutor() as inline:
        assert verify(path, deep=True, executor=inline, on_progress=seen.append).videos == alone.videos
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_a_video_whose_check_kills_its_worker_costs_only_itself(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store("a", "deadly", "z")
    monkeypatch.setattr("flowkit.store.tools.check_file.check_videos", check_or_die)
    with LocalExecutor(1) as executor:
        report = check_file(path, executor=executor)
    assert list(report.videos) == ["deadly"]
    assert "the check of it failed: the worker process ended with SIGKILL" in report.videos["deadly"][0]


def test_a_copy_of_a_damaged_array_does_not_pass(make_store: MakeStore, tmp_path: Path) -> None:
    """Its chunks and its file have checksums of their own, made after the damage."""
    from flowkit.store.tools.combine import merge

    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        file["videos/a/flow_scale"][0] = 99.0
    copy = tmp_path / "copy.h5"
    shutil.rmtree(copy, ignore_errors=True)
    merge([path], copy)
    assert list(verify(copy).videos) == ["a"]
