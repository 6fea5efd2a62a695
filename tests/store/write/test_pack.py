"""From parts to the files of a store: which are written, what is in each, and what stays after a failure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit import atomic
from flowkit.errors import InputError, NoSpaceError, StoreOptionsError
from flowkit.store import checked_hdf5, index
from flowkit.store.inventory import inventory, survey
from flowkit.store.metadata import read_metadata, read_records
from flowkit.store.parts_folder import PartsFolder, parts_path, shards_path
from flowkit.store.read.store import open_store
from flowkit.store.record import Failure
from flowkit.store.schema import DEFAULT_SHARD_BYTES, StoreOptions
from flowkit.store.tools.verify import verify
from flowkit.store.write.container import Lists
from flowkit.store.write.pack import (
    file_sha256,
    finalize,
    ledger_path,
    link_or_copy,
    write_container,
    write_ledger,
    write_master,
)
from tests.store.conftest import (
    HEIGHT,
    N_FRAMES,
    WIDTH,
    MakePart,
    MakeStore,
    make_flow,
    make_options,
    make_record,
)

FAILURES = (
    Failure(source="ü.avi", reason="unopenable", detail="two\nlines"),
    Failure(source="x", reason="too_short"),
)


@pytest.fixture
def lists(options: StoreOptions) -> Lists:
    return Lists(options=options, labels=("one", "two"), failures=FAILURES)


def part(store_path: Path, video_id: str) -> Path:
    return PartsFolder(store_path).part_path(video_id)


def chunks(file: h5py.File, video_id: str) -> list[bytes]:
    dataset = file[f"videos/{video_id}/flow"]
    return [dataset.id.read_direct_chunk((k, 0, 0, 0))[1] for k in range(len(dataset))]


def state(path: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each file: what was rewritten shows."""
    files = [p for p in path.parent.rglob("*") if p.is_file()]
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def held(path: Path) -> dict[str, int]:
    """Return the seed of each video's flow in the store at `path`, each within its error."""
    found = {}
    with open_store(path) as store:
        for video_id, clip in store.items():
            flow = clip.flow()
            seeds = [s for s in range(10) if np.abs(make_flow(s, N_FRAMES - 1) - flow).max() <= 0.125]
            (found[video_id],) = seeds
    assert verify(path).sound, verify(path)
    return found


def test_parts_become_one_file_and_nothing_else(make_store: MakeStore, store_path: Path) -> None:
    make_store("a/x", "a/y", "b")
    assert os.listdir(store_path.parent) == ["out.h5"]
    assert held(store_path) == {"a/x": 0, "a/y": 1, "b": 2}
    with h5py.File(store_path) as file:
        assert file["labels"]["label"].tolist() == [b"a"]
        assert file["index/videos"]["id"].tolist() == [b"a/x", b"a/y", b"b"]
        assert file["index/videos"]["path"].tolist() == [b"videos/a/x", b"videos/a/y", b"videos/b"]
        assert file["index"].attrs["file_bytes"] == store_path.stat().st_size


PLAIN = """
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    v = f["videos/HandStand/clip_07"]
    a, b = 1, 3
    uv = v["flow"][a:b] * v["flow_scale"][a:b].reshape(-1, 1, 1, 1)   # px per frame, (n, 2, H, W): u, v
print(uv.dtype, uv.shape, float(abs(uv).sum()), any(name.startswith("flowkit") for name in sys.modules))
"""


@pytest.mark.parametrize("codec", ["q8", "i8", "i16"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_plain_h5py_reads_any_store(make_store: MakeStore, codec: str, shard_bytes: int) -> None:
    options = make_options(flow_codec=codec)
    path = make_store("HandStand/clip_07", "other", options=options, shard_bytes=shard_bytes)
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(path)], capture_output=True, text=True, check=True, cwd="/"
    )
    with open_store(path) as store:
        total = float(np.abs(store["HandStand/clip_07"].flow(1, 3)).sum())
    kind, *shape, got, imported = done.stdout.replace("(", "").replace(")", "").replace(",", "").split()
    assert (kind, shape, imported) == ("float32", ["2", "2", str(HEIGHT), str(WIDTH)], "False")
    assert float(got) == pytest.approx(total, rel=1e-6)


def test_too_much_for_one_shard_becomes_master_and_shards(make_store: MakeStore, store_path: Path) -> None:
    make_store("a", "b", "c", shard_bytes=1)
    assert sorted(os.listdir(store_path.parent)) == ["out.h5", "out.h5.shards"]
    assert sorted(os.listdir(shards_path(store_path))) == ["00000.h5", "00001.h5", "00002.h5"]
    assert held(store_path) == {"a": 0, "b": 1, "c": 2}
    with h5py.File(store_path) as file:
        row = file["shard_table"][1]
        content = (shards_path(store_path) / "00001.h5").read_bytes()
        assert row["name"] == b"00001.h5"
        assert (row["bytes"], row["sha256"].decode()) == (len(content), hashlib.sha256(content).hexdigest())
        assert isinstance(file.get("videos/a", getlink=True), h5py.ExternalLink)
        assert "flow" in file["shards/00002/videos/c"]


def test_shards_hold_as_many_videos_as_fit(
    make_store: MakeStore, make_part: MakePart, store_path: Path
) -> None:
    make_part("probe")
    size = PartsFolder(store_path).part_path("probe").stat().st_size
    PartsFolder(store_path).part_path("probe").unlink()
    make_store("a", "b", "c", shard_bytes=2 * size + 10)
    assert sorted(os.listdir(shards_path(store_path))) == ["00000.h5", "00001.h5"]


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_nothing_new_rewrites_nothing(make_store: MakeStore, options: StoreOptions, shard_bytes: int) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    before = state(path)
    assert not finalize(path, options=options, shard_bytes=shard_bytes)
    assert state(path) == before


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_more_videos_can_be_added(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions, shard_bytes: int
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    before = state(path)
    make_part("c", seed=7)
    assert finalize(path, options=options, shard_bytes=shard_bytes)
    assert held(path) == {"a": 0, "b": 1, "c": 7}
    if shard_bytes == 1:
        kept = {"00000.h5", "00001.h5"}
        assert {k: v for k, v in state(path).items() if k in kept} == {k: before[k] for k in kept}


def test_single_file_that_outgrows_its_shard_becomes_the_first(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("a", "b")
    inode = path.stat().st_ino
    make_part("c", seed=7)
    finalize(path, options=options, shard_bytes=1)
    assert held(path) == {"a": 0, "b": 1, "c": 7}
    assert inode in {p.stat().st_ino for p in shards_path(path).iterdir()}  # linked, not copied


def test_without_links_the_single_file_is_copied(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    path = make_store("a")
    make_part("b", seed=7)
    monkeypatch.setattr(os, "link", refuse)
    finalize(path, options=options, shard_bytes=1)
    assert held(path) == {"a": 0, "b": 7}


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_part_of_a_stored_video_replaces_it_only_on_request(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions, shard_bytes: int
) -> None:
    path = make_store("a", "b", "c", shard_bytes=shard_bytes)
    make_part("b", seed=9)
    assert inventory(path).repeated.keys() == {"b"}
    finalize(path, options=options, shard_bytes=shard_bytes)
    assert held(path) == {"a": 0, "b": 1, "c": 2}
    make_part("b", seed=9)
    finalize(path, options=options, shard_bytes=shard_bytes, replace={"b", "c"})
    assert held(path) == {"a": 0, "b": 9, "c": 2}
    assert not parts_path(path).exists()


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_dropped_videos_are_gone(make_store: MakeStore, options: StoreOptions, shard_bytes: int) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    finalize(path, options=options, drop={"a", "never there"})
    assert held(path) == {"b": 1}
    if shard_bytes == 1:
        assert len(os.listdir(shards_path(path))) == 1


def test_failures_are_kept_in_store_and_ledger(make_store: MakeStore, options: StoreOptions) -> None:
    path = make_store("a")
    failures = [Failure(source="ü.avi", reason="unopenable", detail="zero bytes\nlong " * 9)]
    assert finalize(path, options=options, failures=failures)
    assert inventory(path).failures == tuple(failures)
    assert [json.loads(line) for line in ledger_path(path).read_text().splitlines()] == [
        {"source": "ü.avi", "reason": "unopenable", "detail": failures[0].detail}
    ]
    assert not finalize(path, options=options, failures=failures)
    finalize(path, options=options)
    assert not ledger_path(path).exists()


def test_a_run_in_which_all_fail_leaves_a_store_that_says_so(store_path: Path, options: StoreOptions) -> None:
    failure = Failure(source="x", reason="too_short")
    finalize(store_path, options=options, failures=[failure])
    with open_store(store_path) as store:
        assert (len(store), store.failures, store.options) == (0, (failure,), options)
    assert verify(store_path).sound


def test_labels_are_given_or_those_of_the_videos(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("b/1", "a/1")
    assert inventory(path).labels == ("a", "b")
    finalize(path, options=options, labels=["b", "a"])
    assert inventory(path).labels == ("b", "a")
    make_part("0/1")
    finalize(path, options=options)
    assert inventory(path).labels == ("b", "a", "0")


def test_parts_of_other_options_are_refused(
    make_store: MakeStore, make_part: MakePart, store_path: Path
) -> None:
    make_store("a")
    other = make_options(step=2)
    with pytest.raises(StoreOptionsError, match="step: stored 1, asked 2"):
        finalize(store_path, options=other)
    make_part("b", options=other, n_flow=N_FRAMES - 2)
    with pytest.raises(StoreOptionsError, match="step: stored 2, asked 1"):
        finalize(store_path, options=make_options())
    assert held(store_path) == {"a": 0}


def test_ids_that_nest_are_refused(make_part: MakePart, store_path: Path, options: StoreOptions) -> None:
    make_part("a")
    make_part("a/flow")
    with pytest.raises(InputError, match="folder"):
        finalize(store_path, options=options)


def test_damaged_parts_count_as_not_there_and_stay(
    make_part: MakePart, store_path: Path, options: StoreOptions
) -> None:
    make_part("a")
    bad = PartsFolder(store_path).part_path("b")
    bad.write_bytes(b"no HDF5 at all")
    assert inventory(store_path).damaged.keys() == {bad}
    finalize(store_path, options=options)
    assert held(store_path) == {"a": 0}
    assert bad.exists()


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


def interrupted(monkeypatch: pytest.MonkeyPatch, when: int, work: Callable[[], object]) -> bool:
    """Run `work` up to its `when`-th sync, rename, link or removal; return whether it was stopped."""
    calls = 0
    dead = False

    def stopping(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls, dead
            calls += 1
            dead = dead or calls == when
            if dead:
                raise Killed
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "fsync", "link", "unlink", "rmdir"):
            patch.setattr(os, name, stopping(getattr(os, name)))
        try:
            work()
        except Killed:
            return True
    return False


# One file stays one or becomes a master with shards; a master gets a shard more.
@pytest.mark.parametrize(
    ("first_shard_bytes", "shard_bytes"), [(1 << 30, 1 << 30), (1 << 30, 1), (1, 1 << 30)]
)
def test_a_kill_at_any_step_loses_nothing_that_was_committed(
    store_path: Path,
    make_store: MakeStore,
    make_part: MakePart,
    options: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    shard_bytes: int,
    first_shard_bytes: int,
) -> None:
    """Add one video and replace another; stop at each step; what was there is there, then go on."""
    expected = {"a": 0, "b": 9, "c": 7}
    make_store("a", "b", shard_bytes=first_shard_bytes)
    make_part("b", seed=9)
    make_part("c", seed=7)
    before = shutil.copytree(store_path.parent, tmp_path_factory.mktemp("before") / "store")
    for when in range(1, 100):
        shutil.rmtree(store_path.parent)
        shutil.copytree(before, store_path.parent)

        def work() -> None:
            with PartsFolder(store_path).lock():
                finalize(store_path, options=options, shard_bytes=shard_bytes, replace={"b"})

        stopped = interrupted(monkeypatch, when, work)
        assert inventory(store_path).records.keys() == {"a", "b", "c"}
        PartsFolder(store_path).remove_dead_temporaries()
        work()
        assert held(store_path) == expected
        assert not [
            p for p in store_path.parent.rglob("*") if p.suffix == ".tmp" or p.name.endswith(".parts")
        ]
        if not stopped:
            assert when > 8
            return
    raise AssertionError("the work never came to its end")


@pytest.mark.parametrize("failing", ["out.h5", "00000.h5", "00001.h5"])
def test_full_disk_while_packing_keeps_every_part_or_its_shard(
    make_part: MakePart,
    store_path: Path,
    options: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    make_part("a", seed=0)
    make_part("b", seed=1)
    original = atomic.commit

    def fail(temporary: Path, path: Path) -> None:
        if path.name == failing:
            raise NoSpaceError("full")
        original(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "commit", fail)
        with pytest.raises(NoSpaceError):
            finalize(store_path, options=options, shard_bytes=1)
    assert inventory(store_path).records.keys() == {"a", "b"}
    assert not list(store_path.parent.rglob("*.tmp"))
    finalize(store_path, options=options, shard_bytes=1)
    assert held(store_path) == {"a": 0, "b": 1}


def test_default_shard_is_4_gib() -> None:
    assert DEFAULT_SHARD_BYTES == 4 * 1024**3


def test_a_container_has_the_videos_of_its_sources_as_they_are_stored(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    records = {"b/x": make_part("b/x", seed=1), "a": make_part("a", seed=2)}
    made = tmp_path / "made.h5"
    write_container(made, {part(store_path, k): [k] for k in records}, records, lists, number=4)
    with h5py.File(made) as file:
        for video_id in records:
            with h5py.File(part(store_path, video_id)) as source:
                assert chunks(file, video_id) == chunks(source, video_id)
                assert np.array_equal(file[f"videos/{video_id}/frames"], source[f"videos/{video_id}/frames"])
        assert index.read_index(file) == (records, {"b/x": 4, "a": 4})
        assert list(index.read_index(file)[0]) == ["b/x", "a"]
        assert (index.read_labels(file), index.read_failures(file)) == (lists.labels, FAILURES)
        assert read_metadata(file).options == lists.options
        assert read_metadata(file).labels == lists.labels
        assert file["index"].attrs["file_bytes"] == made.stat().st_size
        assert "shard_table" not in file


def test_a_container_takes_the_chosen_videos_of_a_source_only(
    make_store: MakeStore, tmp_path: Path, lists: Lists
) -> None:
    made = tmp_path / "made.h5"
    write_container(made, {make_store("a", "b", "c"): ["c", "a"]}, {k: make_record(k) for k in "ac"}, lists)
    with h5py.File(made) as file:
        assert checked_hdf5.video_ids(file) == ["a", "c"]
        assert index.read_index(file)[1] == dict.fromkeys("ac", index.NO_SHARD)


def test_videos_get_the_records_that_are_given(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    old = {k: make_part(k) for k in "ab"}
    new = {"a": make_record("a", label="new"), "b": old["b"]}
    made = tmp_path / "made.h5"
    write_container(made, {part(store_path, k): [k] for k in "ab"}, new, lists)
    with h5py.File(made) as file:
        assert read_records(file, ["a", "b"]) == new
        assert index.read_index(file)[0] == new
        assert file["videos/a"].attrs["label"] == "new"


def test_a_source_of_other_options_is_refused_and_the_old_file_stays(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    records = {"a": make_part("a"), "b": make_part("b", options=make_options(jpeg_quality=80))}
    made = tmp_path / "made.h5"
    made.write_text("as before")
    with pytest.raises(StoreOptionsError, match=r"other options: jpeg_quality: stored 80, asked 95"):
        write_container(made, {part(store_path, k): [k] for k in "ab"}, records, lists)
    assert made.read_text() == "as before"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_master_links_each_video_and_each_shard(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b/x", "c", shard_bytes=1)
    records = {k: make_record(k) for k in ("a", "b/x")}
    write_master(survey(path), records, {"a": 0, "b/x": 1}, lists)
    with h5py.File(path) as file:
        links = {name: file.get(name, getlink=True) for name in ("videos/a", "videos/b/x", "shards/00001")}
        assert {name: (link.filename, link.path) for name, link in links.items()} == {
            "videos/a": ("out.h5.shards/00000.h5", "/videos/a"),
            "videos/b/x": ("out.h5.shards/00001.h5", "/videos/b/x"),
            "shards/00001": ("out.h5.shards/00001.h5", "/"),
        }
        assert sorted(file["shards"]) == ["00000", "00001"]
        assert index.read_index(file) == (records, {"a": 0, "b/x": 1})
        assert (index.read_labels(file), index.read_failures(file)) == (lists.labels, FAILURES)
    for shard in survey(path).table:
        content = (shards_path(path) / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_number_of_the_next_shard_never_falls(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b", "c", shard_bytes=1)
    assert survey(path).next_shard == 3
    write_master(survey(path), {"a": make_record("a")}, {"a": 0}, lists)
    assert survey(path).next_shard == 3
    files = survey(path)  # before the shard is written, as a pack does
    (shards_path(path) / "00002.h5").rename(shards_path(path) / "00007.h5")
    write_master(files, {"c": make_record("c")}, {"c": 7}, lists)
    with h5py.File(path) as file:
        assert file.attrs["next_shard"] == 8


def test_a_digest_is_made_anew_only_where_the_size_differs(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b", shard_bytes=1)
    records, shards = {k: make_record(k) for k in "ab"}, {"a": 0, "b": 1}
    before = {shard.name: shard.sha256 for shard in survey(path).table}
    first, second = (shards_path(path) / name for name in before)
    first.write_bytes(b"x" * first.stat().st_size)  # a committed shard never changes: not read again
    second.write_bytes(second.read_bytes() + b"x")
    write_master(survey(path), records, shards, lists)
    after = {shard.name: shard.sha256 for shard in survey(path).table}
    assert after == {first.name: before[first.name], second.name: file_sha256(second)}
    assert after[second.name] != before[second.name]


def test_sha256_is_that_of_fips_180(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3_000_000))
    assert file_sha256(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()


def test_a_second_name_is_a_link_to_the_same_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    link_or_copy(source, target)
    assert target.samefile(source)


def test_where_links_are_impossible_a_copy_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    target.write_text("old")
    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, target)
    assert target.read_text() == "content"
    assert not target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_full_disk_is_no_reason_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(NoSpaceError, match=r"no space left to write .*b: .*free some space"):
        link_or_copy(source, target)
    assert not target.exists()


def test_the_ledger_has_one_json_object_a_line(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, FAILURES)
    assert ledger_path(store) == tmp_path / "out.h5.failures.jsonl"
    lines = ledger_path(store).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"source": "ü.avi", "reason": "unopenable", "detail": "two\nlines"},
        {"source": "x", "reason": "too_short", "detail": ""},
    ]


def test_the_ledger_is_rewritten_only_for_other_failures(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, FAILURES)
    first = ledger_path(store).stat().st_ino
    write_ledger(store, FAILURES)
    assert ledger_path(store).stat().st_ino == first
    write_ledger(store, FAILURES[:1])
    assert len(ledger_path(store).read_text(encoding="utf-8").splitlines()) == 1


def test_without_failures_there_is_no_ledger(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, ())
    assert not ledger_path(store).exists()
    write_ledger(store, FAILURES)
    write_ledger(store, ())
    assert list(tmp_path.iterdir()) == []
