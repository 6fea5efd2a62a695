from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit.errors import (
    ClipNotFoundError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
)
from flowkit.store.codecs import flow_codec
from flowkit.store.parts_folder import PartsFolder, shards_path
from flowkit.store.read.store import open_store
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter
from tests.make.stores import change_metadata
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

# Half a code: of scale 1/4 px at most (noise of 4 px has peaks beyond 15.9), of 1/64 px; JPEG's
# quality 95 moves noise by up to about a dozen of its steps of .157 px.
TOLERANCE_PX = {"q8": 1 / 16, "i8": 1 / 8, "i16": 1 / 128, "jpeg": 2.0}


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_flow_comes_back_within_the_error_of_its_codec(
    make_store: MakeStore, codec: str, shard_bytes: int
) -> None:
    path = make_store("a", "b/c", options=make_options(flow_codec=codec), shard_bytes=shard_bytes)
    with open_store(path) as store:
        assert list(store) == ["a", "b/c"]
        for seed, clip in enumerate(store.values()):
            flow = clip.flow(1, 3)
            assert (flow.dtype.name, flow.shape) == ("float32", (2, 2, HEIGHT, WIDTH))
            expected = np.clip(make_flow(seed, N_FRAMES - 1)[1:3], -20, 20)
            assert np.abs(flow - expected).max() <= TOLERANCE_PX[codec]


def test_unknown_id_suggests_close_ones(make_store: MakeStore) -> None:
    with open_store(make_store("walk/clip_1", "run/clip_1")) as store:
        with pytest.raises(ClipNotFoundError, match="did you mean 'walk/clip_1'"):
            store["walk/clip1"]
        assert "walk/clip1" not in store
        assert store.get("nothing") is None


def test_store_counts_itself(make_store: MakeStore) -> None:
    path = make_store("a/1", "a/2", "b/1", shard_bytes=1)
    with open_store(path) as store:
        info = store.info()
    assert (info.n_videos, info.n_frames, info.n_flow) == (3, 12, 9)
    assert info.per_label == {"a": 2, "b": 1}
    assert (info.per_status, info.per_backend) == ({"ok": 3}, {"cpu": 3})
    assert info.bytes == sum(p.stat().st_size for p in path.parent.rglob("*.h5") if p.is_file())
    assert info.shards == ("00000.h5", "00001.h5", "00002.h5")
    assert info.format_version == "1.1"


def test_threads_read_at_once(make_store: MakeStore) -> None:
    with open_store(make_store("a", "b")) as store:
        expected = {video_id: clip.flow() for video_id, clip in store.items()}
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda k: store["ab"[k % 2]].flow(), range(40)))
    assert all(np.array_equal(flow, expected["ab"[k % 2]]) for k, flow in enumerate(read))


def test_pickled_store_opens_again_by_its_path(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store, pickle.loads(pickle.dumps(store)) as again:
        assert np.array_equal(again["a"].flow(), store["a"].flow())


def test_closed_store_says_so(make_store: MakeStore) -> None:
    store = open_store(make_store("a"))
    clip = store["a"]
    store.close()
    with pytest.raises(StoreError, match="closed"):
        clip.flow()


def test_store_on_a_read_only_file_is_read(make_store: MakeStore) -> None:
    path = make_store("a")
    path.chmod(0o444)
    with open_store(path) as store:
        assert store["a"].flow().any()


def test_missing_shard_is_named_and_the_rest_served(make_store: MakeStore) -> None:
    path = make_store("a", "b", "c", shard_bytes=1)
    (shards_path(path) / "00001.h5").unlink()
    with pytest.warns(RuntimeWarning, match="00001.h5"):
        store = open_store(path)
    with store:
        assert list(store) == ["a", "c"]
        assert [video_id in store for video_id in "abc"] == [True, False, True]
        assert store["c"].flow().any()
        assert store.missing_shards == ("00001.h5",)
        with pytest.raises(StoreNotFoundError, match=r"00001\.h5"):
            store["b"]


def test_master_and_its_shards_can_be_renamed_together(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    shards_path(path).rename(path.with_name("moved.h5.shards"))
    moved = path.rename(path.with_name("moved.h5"))
    with open_store(moved) as store:
        assert store["b"].flow().any()


def test_what_is_no_store_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no store at"):
        open_store(tmp_path / "none.h5")
    with pytest.raises(StoreFormatError, match="no HDF5 file"):
        open_store(tmp_path)
    text = tmp_path / "text.h5"
    text.write_text("text")
    with pytest.raises(StoreFormatError, match="no HDF5 file"):
        open_store(text)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreFormatError, match="no flowkit store"):
        open_store(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("version", "readable"), [("1.1", True), ("1.7", True), ("2.0", False), ("x", False)]
)
def test_newer_major_formats_are_refused_and_newer_minor_ones_read(
    make_store: MakeStore, version: str, readable: bool
) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        change_metadata(file, format_version=version, something_new=1)
        file["videos/a/something_new"] = 1
    if readable:
        with open_store(path) as store:
            assert store["a"].flow().any()
    else:
        with pytest.raises(StoreFormatError, match=f"format {version}, this flowkit reads 1.x"):
            open_store(path)


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize(("field", "chunk"), [("flow", 1), ("frame", 2)])
def test_a_flipped_bit_is_found_as_it_is_read(make_store: MakeStore, field: str, chunk: int) -> None:
    path = make_store("a")
    with h5py.File(path) as file:
        start, size = file[f"index/{field}_addr"][chunk], file[f"index/{field}_nbytes"][chunk]
    flip(path, int(start + size * 3 // 4))
    with open_store(path) as store:
        clip = store["a"]
        with pytest.raises(StoreCorruptError, match=f"{chunk} of .* fails its CRC"):
            clip.flow() if field == "flow" else clip.frames(range(4))
        # The chunks beside it are whole.
        assert clip.flow(2, 3).any()
        assert clip.frames([0, 1, 3]).any()


FIELDS = arrays(np.float32, (2, 2, 3, 4), elements=st.floats(-100, 100, width=32))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=FIELDS, codec=st.sampled_from(["q8", "i8", "i16"]))
def test_any_flow_survives_the_whole_way(tmp_path: Path, flow: NDArray[np.float32], codec: str) -> None:
    path = tmp_path / "out.h5"
    path.unlink(missing_ok=True)
    options = make_options(flow_codec=codec, frame_codec="none")
    parts = PartsFolder(path)
    parts.path.mkdir()
    with PartWriter(parts.part_path("a"), video_id="a", options=options, width=4, height=3) as writer:
        for k in range(3):
            writer.add_frame(float(k))
        coded = [flow_codec(codec).encode(field) for field in flow]
        for field in coded:
            writer.add_flow("flow", field)
        writer.commit(make_record("a", width=4, height=3, n_frames=3, n_flow=2))
    finalize(path, options=options)
    with open_store(path) as store:
        back = store["a"].flow()
    bounds = np.array([field.scale / 2 for field in coded])
    # Scales of q8 and products with them are rounded to float32.
    assert np.all(np.abs(back - flow).max(axis=(1, 2, 3)) <= bounds * (1 + 1e-4))


def test_options_are_those_of_the_extraction(make_part: MakePart, make_store: MakeStore) -> None:
    options: StoreOptions = make_options(step=2, resize='{"mode": "native"}', sampling='{"fps": 5}')
    make_part("a", options=options, n_flow=N_FRAMES - 2)
    with open_store(make_store(options=options)) as store:
        assert store.options == options
        assert store["a"].n_flow == N_FRAMES - 2
