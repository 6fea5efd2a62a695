from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InputError, StoreNotFoundError, StoreOptionsError
from flowkit.store.parts_folder import PartsFolder, parts_path, shards_path
from flowkit.store.read.store import open_store
from flowkit.store.record import Failure
from flowkit.store.schema import StoreOptions
from flowkit.store.tools.combine import merge, relabel, subset
from flowkit.store.tools.verify import verify
from flowkit.store.write.pack import finalize, ledger_path
from tests.store.conftest import make_options, make_record, write_part

Videos = dict[str, int]


def make(path: Path, videos: Videos, *, options: StoreOptions | None = None, **settings: object) -> Path:
    """Make a store of videos by id and seed."""
    chosen = options or make_options()
    for video_id, seed in videos.items():
        record = make_record(video_id, source_bytes=1000 + seed)
        write_part(PartsFolder(path).part_path(video_id), record, chosen, seed=seed)
    finalize(path, options=chosen, **settings)  # type: ignore[arg-type]
    return path


def chunks(path: Path) -> dict[str, list[bytes]]:
    """Return each video's stored bytes."""
    with open_store(path) as store:
        videos = {k: store.stored_video(k) for k in store}
        return {
            k: [
                *(video.frames[n] for n in range(video.record.n_frames)),
                *(b"".join(video.field("flow").chunks(n)) for n in range(video.record.n_flow)),
                video.pts.tobytes(),
            ]
            for k, video in videos.items()
        }


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_merged_stores_hold_the_same_bytes(tmp_path: Path, shard_bytes: int) -> None:
    first = make(tmp_path / "1.h5", {"b/1": 0, "b/2": 1}, failures=[Failure(source="x", reason="y")])
    second = make(tmp_path / "2.h5", {"a/1": 2, "b/3": 3}, shard_bytes=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.h5") if path.is_file()}
    out = tmp_path / "new" / "out.h5"
    merge([first, second], out, shard_bytes=shard_bytes)
    assert chunks(out) == chunks(first) | chunks(second)
    assert verify(out).sound
    assert shards_path(out).is_dir() == (shard_bytes == 1)
    assert not parts_path(out).exists()
    assert {path: path.read_bytes() for path in before} == before
    with open_store(out) as store:
        assert list(store) == ["a/1", "b/1", "b/2", "b/3"]
        assert (store.labels, store.access.method) == (("a", "b"), "pread")
        assert store.failures == (Failure(source="x", reason="y"),)
    assert ledger_path(out).read_text().count("\n") == 1


def test_class_names_keep_the_first_stores_order(tmp_path: Path) -> None:
    first = make(tmp_path / "1.h5", {"z/1": 0, "c/1": 1}, labels=["z", "c"])
    second = make(tmp_path / "2.h5", {"a/1": 2, "c/2": 3})
    assert merge([first, second], tmp_path / "out.h5").labels == ("z", "c", "a")


def test_stores_that_cannot_be_merged_are_reported(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1.h5", {"a": 0}), make(tmp_path / "2.h5", {"a": 1})
    with pytest.raises(InputError, match="'a' from different sources"):
        merge([first, second], tmp_path / "out.h5")
    other = make(tmp_path / "3.h5", {"b": 0}, options=make_options(step=1, jpeg_quality=90))
    with pytest.raises(StoreOptionsError, match="jpeg_quality"):
        merge([first, other], tmp_path / "out.h5")
    nested = make(tmp_path / "4.h5", {"a/b": 0})
    with pytest.raises(InputError, match="is a folder of"):
        merge([first, nested], tmp_path / "out.h5")
    with pytest.raises(StoreNotFoundError):
        merge([first, tmp_path / "none.h5"], tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_video_of_one_source_is_merged_once(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1.h5", {"a": 0, "b": 1}), make(tmp_path / "2.h5", {"b": 1, "c": 2})
    assert list(merge([first, second], tmp_path / "out.h5").records) == ["b", "c", "a"]
    assert verify(tmp_path / "out.h5").n_videos == 3


@pytest.mark.parametrize("left", ["out.h5", "out.h5.shards/00000.h5", "out.h5.parts/x.h5"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, left: str) -> None:
    store = make(tmp_path / "1.h5", {"a": 0})
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_bytes(b"mine")
    with pytest.raises(InputError, match="there already"):
        merge([store], tmp_path / "out.h5")
    assert (tmp_path / left).read_bytes() == b"mine"


def test_a_subset_keeps_its_classes(tmp_path: Path) -> None:
    store = make(tmp_path / "1.h5", {"a/1": 0, "b/1": 1, "b/2": 2}, shard_bytes=1)
    out = tmp_path / "out.h5"
    subset(store, out, ["b/2", "b/1"])
    whole = chunks(store)
    assert chunks(out) == {k: whole[k] for k in ("b/1", "b/2")}
    assert verify(out).sound
    with open_store(out) as opened:
        assert opened.labels == ("a", "b")
    with pytest.raises(InputError, match=r"1 ids are not in .*'z'"):
        subset(store, tmp_path / "other.h5", ["b/1", "z"])
    with pytest.raises(InputError, match="no ids"):
        subset(store, tmp_path / "other.h5", [])


def test_labels_change_in_the_groups_and_in_the_index(tmp_path: Path) -> None:
    store = make(tmp_path / "1.h5", {"a/1": 0, "b/1": 1})
    out = tmp_path / "out.h5"
    done = relabel(store, out, {"a/1": "run", "b/1": "b"})
    assert done.relabelled == {"a/1"}
    assert chunks(out) == chunks(store)
    assert verify(out).sound
    with open_store(out) as opened, open_store(out, access="h5py") as slow:
        assert opened.labels == ("b", "run")
        assert [clip.label for clip in opened.values()] == ["run", "b"]
        assert slow["a/1"].record.label == "run"
        assert np.array_equal(opened["a/1"].flow(), slow["a/1"].flow())
    ordered = relabel(store, tmp_path / "2.h5", {"a/1": "run"}, classes=["run", "x", "b"])
    assert ordered.labels == ("run", "x", "b")
    with pytest.raises(InputError, match=r"\['b'\] are not among"):
        relabel(store, tmp_path / "3.h5", {"a/1": "run"}, classes=["run"])
    with pytest.raises(InputError, match="'z'"):
        relabel(store, tmp_path / "3.h5", {"z": "run"})


def test_merging_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one store, got none"):
        merge([], tmp_path / "out.h5")
