"""A clip of an open store: frames and flow by index, and what is said of other indices."""

from __future__ import annotations

import dataclasses
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit import jpeg
from flowkit.errors import ClipRangeError, StoreCorruptError, StoreError
from flowkit.store.read.clip import Clip, ClipRequest
from flowkit.store.read.handles import AccessMethod
from flowkit.store.read.store import open_store
from flowkit.store.schema import FieldOptions
from tests.make.stores import noise, write_store
from tests.store.conftest import (
    HEIGHT,
    N_FRAMES,
    WIDTH,
    MakeStore,
    make_flow,
    make_frames,
    make_options,
    make_record,
)


def test_codes_times_scale_are_the_flow(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        codes, scales = store["a"].codes(0, 2)
        assert (codes.dtype.name, scales.dtype.name, scales.shape) == ("int8", "float32", (2,))
        assert np.array_equal(codes * scales[:, None, None, None], store["a"].flow(0, 2))


def test_jpeg_codes_are_uint8_over_the_bound(make_store: MakeStore) -> None:
    with open_store(make_store("a", options=make_options(flow_codec="jpeg"))) as store:
        codes, scales = store["a"].codes()
        assert codes.dtype == np.uint8
        expected = codes * scales[:, None, None, None] - 20
        assert np.allclose(expected, store["a"].flow(), atol=1e-5)  # float32 at 20 px


def test_frames_come_back_in_the_order_asked(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        frames = store["a"].frames([2, 0, 2])
        assert (frames.dtype.name, frames.shape) == ("uint8", (3, HEIGHT, WIDTH, 3))
        expected = [jpeg.decode(jpeg.encode(make_frames(0, N_FRAMES)[k], 95)) for k in (2, 0, 2)]
        assert np.array_equal(frames, np.stack(expected))
        assert store["a"].frames(np.array([], int)).shape == (0, HEIGHT, WIDTH, 3)


def test_a_clip_has_everything_of_its_video(make_store: MakeStore) -> None:
    with open_store(make_store("HandStand/clip_07")) as store:
        clip = store["HandStand/clip_07"]
        assert (clip.id, clip.label, clip.n_frames, clip.n_flow) == ("HandStand/clip_07", "HandStand", 4, 3)
        assert (clip.width, clip.height, clip.fields) == (WIDTH, HEIGHT, ("flow",))
        assert clip.pts.tolist() == [0.0, 0.04, 0.08, 0.12]
        assert clip.record == make_record("HandStand/clip_07")
        assert clip.record.source_sha256 == "0" * 64
        assert "HandStand/clip_07" in repr(clip)


def test_second_field_is_read_by_name(store_path: Path, make_store: MakeStore) -> None:
    field = FieldOptions(tvl1_preset="x", tvl1_params="{}")
    options = make_options(fields=(field, dataclasses.replace(field, name="flow_backward")))
    with open_store(make_store("a", options=options)) as store:
        backward = store["a"].flow(field="flow_backward")
        assert np.abs(backward - make_flow(1, N_FRAMES - 1)).max() <= 0.125
        with pytest.raises(ClipRangeError, match="flow_backward"):
            store["a"].flow(field="flow_accurate")


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 4), (2, 1), (4, None)])
def test_ranges_outside_the_clip_are_answered_with_the_valid_one(
    make_store: MakeStore, start: int, stop: int | None
) -> None:
    with open_store(make_store("a")) as store, pytest.raises(ClipRangeError, match="stop <= 3"):
        store["a"].flow(start, stop)


def test_frames_outside_the_clip_are_answered_with_the_valid_range(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store, pytest.raises(ClipRangeError, match=r"\[4, -1\].*< 4"):
        store["a"].frames([0, 4, -1])


def test_a_store_without_frames_says_so(make_store: MakeStore) -> None:
    with open_store(make_store("a", options=make_options(frame_codec="none"))) as store:
        assert store["a"].flow().shape[0] == 3
        with pytest.raises(ClipRangeError, match="--frames none"):
            store["a"].frames([0])


def total(clip: Clip) -> tuple[int, float]:
    return os.getpid(), float(clip.flow().sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_clips_go_to_other_processes(make_store: MakeStore, method: str, shard_bytes: int) -> None:
    with open_store(make_store("a", "b", shard_bytes=shard_bytes)) as store:
        clip = store["b"]
        here = total(clip)
        with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
            pid, there = pool.submit(total, clip).result()
        assert pid != here[0]
        assert there == here[1]
        assert total(clip) == here


def test_without_indices_all_is_read(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        clip = store["a"]
        assert np.array_equal(clip.frames(), clip.frames(range(clip.n_frames)))
        assert np.array_equal([*clip.iter_frames()], clip.frames())
        assert np.array_equal([*clip.iter_flow()], clip.flow())
        codes, scales = clip.codes()
        assert all(
            np.array_equal(one, codes[k]) and scale == scales[k]
            for k, (one, scale) in enumerate(clip.iter_codes())
        )


def test_a_clip_of_a_closed_store_says_so(make_store: MakeStore) -> None:
    store = open_store(make_store("a"))
    clip = store["a"]
    assert clip.flow().any()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        clip.flow()


BOTH_WAYS = pytest.mark.parametrize("access", ["auto", "h5py"])


@BOTH_WAYS
def test_ranges_are_parts_of_the_whole(make_store: MakeStore, access: AccessMethod) -> None:
    with open_store(make_store("a"), access=access) as store:
        clip = store["a"]
        whole, (codes, scales) = clip.flow(), clip.codes()
        for start in range(4):
            for stop in range(start, 4):
                assert np.array_equal(clip.flow(start, stop), whole[start:stop])
                some, their_scales = clip.codes(start, stop)
                assert np.array_equal(some, codes[start:stop])
                assert np.array_equal(their_scales, scales[start:stop])
        assert np.array_equal(clip.flow(2), whole[2:])
        assert clip.flow(3, 3).shape == (0, 2, HEIGHT, WIDTH)


@BOTH_WAYS
@pytest.mark.parametrize("wanted", [[1], [2, 0, 2], np.array([2, 1], np.int16), range(3), []])
def test_indices_of_every_kind_give_those_fields_and_frames(
    store_path: Path, access: AccessMethod, wanted: list[int]
) -> None:
    uneven = noise(3, 0) * np.array([1, 10, 100], np.float32)[:, None, None, None]  # three scales
    with open_store(write_store(store_path, {"a": uneven}), access=access) as store:
        clip = store["a"]
        order = [int(k) for k in wanted]
        flow, frames, scales = clip.flow(), clip.frames(), clip.codes()[1]
        assert len(set(scales.tolist())) == 3
        fields, pictures = list(clip.iter_flow(wanted)), list(clip.iter_frames(wanted))
        assert len(fields) == len(pictures) == len(order)
        assert all(np.array_equal(one, flow[k]) for one, k in zip(fields, order, strict=True))
        assert all(np.array_equal(one, frames[k]) for one, k in zip(pictures, order, strict=True))
        assert [scale for _, scale in clip.iter_codes(wanted)] == [float(scales[k]) for k in order]
        assert np.array_equal(clip.frames(wanted), frames[order])


def test_an_index_that_is_no_integer_is_refused_and_no_damage(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        for read in (
            lambda: store["a"].flow(0.5),  # type: ignore[arg-type]
            lambda: store["a"].frames([1.0]),  # type: ignore[list-item]
            lambda: list(store["a"].iter_flow(["1"])),  # type: ignore[list-item]
            lambda: list(store["a"].iter_frames([None])),  # type: ignore[list-item]
            lambda: list(store.read_many([ClipRequest(video_id="a", flow=[0.0])])),  # type: ignore[list-item]
        ):
            with pytest.raises(TypeError, match="integer"):
                read()


def test_indices_outside_the_clip_are_named_before_anything_is_read(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        clip = store["a"]
        for iterate in (clip.iter_flow, clip.iter_codes):
            with pytest.raises(ClipRangeError, match=r"fields \[3, -1\] are outside 'a': expected .*< 3"):
                next(iterate([0, 3, -1]))
        with pytest.raises(ClipRangeError, match=r"frames \[4\] are outside 'a': expected 0 <= index < 4"):
            next(clip.iter_frames([0, 4]))
        with pytest.raises(ClipRangeError, match=r"\[9, 9, 9, 9, 9\] are"):
            clip.frames([9] * 1000)


def test_a_range_outside_states_both(make_store: MakeStore) -> None:
    expected = r"flow fields \[1, 9\) are outside 'a': expected 0 <= start <= stop <= 3"
    with open_store(make_store("a")) as store, pytest.raises(ClipRangeError, match=expected):
        store["a"].codes(1, 9)


def test_a_field_that_is_not_there_is_answered_with_those_that_are(make_store: MakeStore) -> None:
    with open_store(make_store("a")) as store:
        for read in (store["a"].flow, store["a"].codes):
            with pytest.raises(ClipRangeError, match=r"no flow field 'back'; this store has \['flow'\]"):
                read(field="back")
        with pytest.raises(ClipRangeError, match="no flow field 'back'"):
            next(store["a"].iter_flow(field="back"))


@BOTH_WAYS
def test_iteration_gives_what_is_whole_before_the_damage(make_store: MakeStore, access: AccessMethod) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        place = int(file["index/flow_addr"][1])
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"????")
    with open_store(path, access=access) as store:
        assert np.array_equal(next(store["a"].iter_flow([0])), store["a"].flow(0, 1)[0])
        with pytest.raises(StoreCorruptError, match=r"chunk 1 of .* fails its CRC"):
            list(store["a"].iter_flow([0, 1]))


@pytest.mark.parametrize("codec", ["q8", "i8", "i16", "jpeg"])
def test_a_pickled_clip_reads_the_same(make_store: MakeStore, codec: str) -> None:
    with open_store(make_store("a", options=make_options(flow_codec=codec))) as store:
        again = pickle.loads(pickle.dumps(store["a"]))
        assert again.record == store["a"].record
        assert np.array_equal(again.flow(), store["a"].flow())
        assert np.array_equal(again.frames(), store["a"].frames())
