from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreError
from flowkit.store.parts_folder import shards_path
from flowkit.store.read.store import open_store
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from tests.make.stores import make_format_1_0
from tests.store.conftest import N_FRAMES, MakeStore, make_options


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_sound_stores_are_sound(make_store: MakeStore, codec: str, shard_bytes: int) -> None:
    path = make_store("a", "b/c", options=make_options(flow_codec=codec), shard_bytes=shard_bytes)
    for deep in (False, True):
        seen: list[float] = []
        report = verify(path, deep=deep, on_progress=seen.append)
        assert report.sound, report
        assert (report.n_videos, report.n_frames, report.n_flow) == (2, 8, 6)
        assert (report.n_checked, report.n_decoded) == (2, 2 * deep)
        assert seen == sorted(seen)
        assert 0 < seen[-1] <= 1


def data_bits(path: Path) -> list[tuple[int, int]]:
    """Return every (offset, bit) of the flow and frames of a single-file store."""
    with h5py.File(path) as file:
        places = [
            (start, size)
            for name in ("flow", "frame")
            for start, size in zip(file[f"index/{name}_addr"], file[f"index/{name}_nbytes"], strict=True)
        ]
    return [
        (at, bit) for start, size in places for at in range(start, int(start) + int(size)) for bit in range(8)
    ]


def test_flipped_bits_of_flow_and_frames_are_all_found(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store("a", "b")
    raw = path.read_bytes()
    flips = random.Random(0).sample(data_bits(path), 100)
    missed = []
    for at, bit in flips:
        broken = bytearray(raw)
        broken[at] ^= 1 << bit
        path.write_bytes(broken)
        if len(verify(path).videos) != 1:
            missed.append((at, bit))
    assert missed == []


Damage = Callable[[h5py.File], None]


def set_value(name: str, index: int, value: float) -> Damage:
    def damage(file: h5py.File) -> None:
        file[name][index] = value

    return damage


def store_minus_128(file: h5py.File) -> None:
    group = file["videos/a"]
    codes = group["flow"][0]
    codes[0, 0, 0] = -128
    chunk = zlib.compress(codes.tobytes())
    group["flow"].id.write_direct_chunk((0, 0, 0, 0), chunk)
    group["flow_crc32"][0] = zlib.crc32(chunk)


def drop_chunk(file: h5py.File) -> None:
    """As a full disk leaves it: the space of a chunk is there, the chunk is not."""
    group = file["videos/a"]
    old = group["flow"]
    kept = [old.id.read_direct_chunk((k, 0, 0, 0))[1] for k in range(2)]
    shape, chunks = old.shape, old.chunks
    del group["flow"]
    new = group.create_dataset(
        "flow", shape=shape, chunks=chunks, dtype="i1", compression="gzip", fillvalue=-128
    )
    for k, data in enumerate(kept):
        new.id.write_direct_chunk((k, 0, 0, 0), data)


def set_attribute(name: str, value: object) -> Damage:
    def damage(file: h5py.File) -> None:
        file["videos/a"].attrs[name] = value

    return damage


def remove(name: str) -> Damage:
    def damage(file: h5py.File) -> None:
        del file[name]

    return damage


def resize_pts(file: h5py.File) -> None:
    del file["videos/a/pts"]
    file["videos/a/pts"] = np.arange(3.0)


DAMAGES: dict[str, Damage] = {
    "a code -128": store_minus_128,
    "a missing chunk": drop_chunk,
    "a scale that is NaN": set_value("videos/a/flow_scale", 1, float("nan")),
    "a scale that no codec has": set_value("videos/a/flow_scale", 1, 0.2),
    "a wrong CRC of flow": set_value("videos/a/flow_crc32", 2, 1),
    "a wrong CRC of a frame": set_value("videos/a/frames_crc32", 2, 1),
    "a time that is NaN": set_value("videos/a/pts", 2, float("nan")),
    "offsets that do not rise": set_value("videos/a/frames_offset", 1, 10**6),
    "too few times": resize_pts,
    "no frames": remove("videos/a/frames"),
    "no flow": remove("videos/a/flow"),
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("name", "value"), [("n_frames", N_FRAMES + 1), ("n_flow", N_FRAMES), ("width", 30), ("width", "wide")]
)
def test_attributes_of_a_video_that_differ_are_found_and_made_anew_from_an_index_that_holds(
    make_store: MakeStore, name: str, value: object, is_old: bool
) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        if is_old:  # nothing proves its index
            make_format_1_0(file)
        set_attribute(name, value)(file)
    assert not verify(path).sound
    assert repair(path).dropped == (("a",) if is_old else ())
    assert verify(path).sound
    with open_store(path) as store:
        assert list(store) == (["b"] if is_old else ["a", "b"])


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_repair_drops_its_video(make_store: MakeStore, name: str) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        DAMAGES[name](file)
    assert verify(path).videos.keys() == {"a"}
    assert repair(path).dropped == ("a",)
    assert verify(path).sound
    with open_store(path) as store:
        assert list(store) == ["b"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("another label in the index", lambda f: f["index/videos"].__setitem__(0, relabelled(f))),
        ("a video that the index lacks", lambda f: f.copy("videos/a", "videos/c")),
        ("a wrong address", set_value("index/flow_addr", 1, 17)),
        ("no index", remove("index/videos")),
        ("no labels", remove("labels")),
    ],
)
def test_what_is_wrong_with_the_index_is_found_and_rebuilt(
    make_store: MakeStore, name: str, damage: Damage
) -> None:
    path = make_store("x/a", "b")
    if "lacks" in name:
        path = make_store("a")
    with h5py.File(path, "r+") as file:
        damage(file)
    with h5py.File(path, "r+") as file:
        file["index"].attrs.modify("file_bytes", np.int64(path.stat().st_size))
    report = verify(path)
    assert not report.sound
    assert not report.videos
    result = repair(path)
    assert result.dropped == ()
    assert result.kept >= 2
    assert verify(path).sound


def relabelled(file: h5py.File) -> object:
    row = file["index/videos"][0]
    row["n_frames"] = 77
    return row


def test_shard_with_another_digest_is_found(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    shard = shards_path(path) / "00000.h5"
    with h5py.File(shard, "r+") as file:
        file.attrs["uuid"] = "another"
    report = verify(path)
    assert not report.videos
    assert "SHA-256" in report.store[0]
    assert "attribute uuid" in report.store[1]
    assert repair(path).dropped == ()
    assert verify(path).sound


def test_link_of_the_master_that_leaves_the_shards_is_found(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store("a", "b", shard_bytes=1)
    shutil.copy(shards_path(path) / "00000.h5", tmp_path / "elsewhere.h5")
    with h5py.File(path, "r+") as file:
        del file["videos/a"]
        file["videos/a"] = h5py.ExternalLink("elsewhere.h5", "/videos/a")
    assert verify(path).videos.keys() == {"a"}
    with open_store(path) as store, pytest.raises(StoreError, match="must not leave"):
        store["a"].flow()
    repair(path)
    assert verify(path).sound
