from __future__ import annotations

import itertools
import json
import re
import tarfile
from pathlib import Path

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.rawframes.tar import plan_shards, sample_key
from tests.rawframes.conftest import MakeStore, contents, run_export


def read_samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Read a shard by the format's own rule: a key is all up to the first dot of the last segment."""
    samples: dict[str, dict[str, bytes]] = {}
    last = None
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name)
            assert match is not None
            assert member.isreg()
            key, field = match.groups()
            # Readers see one sample after the other: it may not come back later.
            assert key == last or key not in samples
            last = key
            stream = tar.extractfile(member)
            assert stream is not None
            samples.setdefault(key, {})[field] = stream.read()
    return samples


def images_of(sample: dict[str, bytes], name: str) -> list[bytes]:
    """Divide a stream by its sample's offsets."""
    offsets, stream = json.loads(sample["json"])[f"{name}_offset"], sample[f"{name}.mjpeg"]
    assert offsets[-1] == len(stream)
    return [stream[start:stop] for start, stop in itertools.pairwise(offsets)]


def test_every_sample_has_the_same_fields_whatever_its_length_and_class(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({"run/a": 3, "walk/b.01": 6, "c": 2})
    run_export(store, tmp_path / "out", "webdataset")
    run_export(store, tmp_path / "folders", "denseflow")
    samples = read_samples(tmp_path / "out/clips-000000.tar")
    assert {tuple(sorted(sample)) for sample in samples.values()} == {
        ("cls", "flow.mjpeg", "frames.mjpeg", "json")
    }
    assert {key: sample["cls"] for key, sample in samples.items()} == {
        "c": b"-1",
        "run/a": b"0",
        "walk/b%2E01": b"1",
    }
    folder, sample = tmp_path / "folders/walk/b.01", samples["walk/b%2E01"]
    assert images_of(sample, "frames") == [(folder / f"img_{k:05d}.jpg").read_bytes() for k in range(6)]
    assert images_of(sample, "flow") == [
        (folder / f"flow_{axis}_{k:05d}.jpg").read_bytes() for k in range(5) for axis in "xy"
    ]
    facts = json.loads(sample["json"])
    assert (facts["id"], facts["label"], facts["n_frames"], facts["n_flow"]) == ("walk/b.01", "walk", 6, 5)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "classes.txt",
        "clips-000000.tar",
    ]


def test_a_stream_that_is_left_out_is_left_out_of_all_samples(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3, "b": 2})
    run_export(store, tmp_path / "out", "webdataset", content="flow")
    samples = read_samples(tmp_path / "out/clips-000000.tar")
    assert {tuple(sorted(sample)) for sample in samples.values()} == {("cls", "flow.mjpeg", "json")}


def test_a_stream_too_long_for_the_memory_is_the_same(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store({"a": 4})
    run_export(store, tmp_path / "one", "webdataset")
    monkeypatch.setattr("flowkit.rawframes.tar._MOST_IN_MEMORY", 100)
    run_export(store, tmp_path / "two", "webdataset")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_each_clip_is_one_sample_with_its_images_class_and_facts(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({"run/a": 3, "walk/b.01": 4})
    run_export(store, tmp_path / "out", "webdataset-images")
    run_export(store, tmp_path / "folders", "denseflow")
    samples = read_samples(tmp_path / "out/clips-000000.tar")
    assert sorted(samples) == ["run/a", "walk/b%2E01"]
    sample = samples["walk/b%2E01"]
    assert sample["cls"] == b"1"
    facts = json.loads(sample["json"])
    assert (facts["id"], facts["label"], facts["n_frames"], facts["n_flow"]) == ("walk/b.01", "walk", 4, 3)
    images = {name: data for name, data in sample.items() if name.endswith(".jpg")}
    assert images == {
        name.rpartition("/")[2]: data
        for name, data in contents(tmp_path / "folders").items()
        if name.startswith("walk/b.01/")
    }


def test_the_index_names_every_shard_with_its_samples_and_size(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({f"c/{k}": 2 for k in range(5)})
    run_export(store, tmp_path / "out", "webdataset-images", clips_per_shard=2)
    index = json.loads((tmp_path / "out/clips.json").read_text())
    assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
    assert [shard["nsamples"] for shard in index["shardlist"]] == [2, 2, 1]
    for shard in index["shardlist"]:
        path = tmp_path / "out" / shard["url"]
        assert path.stat().st_size == shard["filesize"]
        assert len(read_samples(path)) == shard["nsamples"]


def test_subsets_of_a_split_have_shards_of_their_own(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 2, "b": 2, "c": 2})
    folder = tmp_path / "out.h5.splits"
    folder.mkdir()
    (folder / "one.csv").write_text("id,subset\na,train\nb,test\nc,train\n")
    run_export(store, tmp_path / "out", "webdataset", split="one")
    assert sorted(read_samples(tmp_path / "out/train-000000.tar")) == ["a", "c"]
    assert sorted(read_samples(tmp_path / "out/test-000000.tar")) == ["b"]


def test_an_unknown_split_is_refused_and_the_known_named(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match=r"Invalid split \('one'\)\. .* of the store are none"):
        run_export(make_store({"a": 2}), tmp_path / "out", "webdataset", split="one")


def test_the_same_clips_give_the_same_bytes(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 2, "b": 2})
    run_export(store, tmp_path / "one", "webdataset")
    run_export(store, tmp_path / "two", "webdataset")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_of_an_earlier_division_are_removed(make_store: MakeStore, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    run_export(make_store({"a": 2, "b": 2}), dest, "webdataset", clips_per_shard=1)
    assert len(list(dest.glob("*.tar"))) == 2
    (tmp_path / "out.h5").unlink()
    report = run_export(make_store({"a": 2}), dest, "webdataset", clips_per_shard=1)
    assert [path.name for path in dest.glob("*.tar")] == ["clips-000000.tar"]
    assert report.notes == ("removed clips-000001.tar, of an earlier export",)


def test_a_repeated_export_keeps_the_shards(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 2, "b": 2})
    run_export(store, tmp_path / "out", "webdataset")
    before = (tmp_path / "out/clips-000000.tar").stat().st_mtime_ns
    assert [o.status for o in run_export(store, tmp_path / "out", "webdataset").outcomes] == [
        "already_exported"
    ]
    assert (tmp_path / "out/clips-000000.tar").stat().st_mtime_ns == before


def test_clips_of_one_class_do_not_stand_together() -> None:
    ids = [f"class{c}/{k}" for c in range(10) for k in range(10)]
    (first, *_) = plan_shards("clips", ids, 20).values()
    assert len({video_id.split("/")[0] for video_id in first}) > 4
    assert sorted(i for ids in plan_shards("clips", ids, 20).values() for i in ids) == sorted(ids)


def test_keys_of_different_ids_differ() -> None:
    ids = ["a.b", "a%2Eb", "a", "a.b/c", "a%2Eb/c"]
    assert len({sample_key(video_id) for video_id in ids}) == len(ids)
