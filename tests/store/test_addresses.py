"""Addresses in the index: they lead to the stored bytes, and a difference from the groups is named."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreError, StoreFormatError
from flowkit.store.addresses import (
    DTYPES,
    address_names,
    index_arrays,
    index_slices,
    row_crc,
    storage_of,
    stored_slices,
    write_addresses,
)
from flowkit.store.codecs import FLOW_CODECS
from flowkit.store.codecs.storage import FRAMES
from flowkit.store.hdf5_file import hdf5_writer
from flowkit.store.schema import FieldOptions, StoreOptions

from .conftest import N_FRAMES, MakeStore, make_options, make_record

TWO_FIELDS = (
    FieldOptions(tvl1_preset="x", tvl1_params="{}"),
    FieldOptions(name="flow_backward", tvl1_preset="x", tvl1_params="{}"),
)


def array_names(options: StoreOptions) -> list[str]:
    return [f"{name}_{kind}" for name, kinds in address_names(options).items() for kind in kinds]


def differing(file: h5py.File, ids: list[str], options: StoreOptions) -> list[str]:
    """Return the arrays of the index that are not as the groups of these videos have them."""
    records = [make_record(video_id) for video_id in ids]
    rows = index_slices(index_arrays(file, records, options), records, options)
    found = []
    for video_id, row in zip(ids, rows, strict=True):
        stored = stored_slices(file, video_id, options)
        assert stored.keys() == row.keys()
        found += [name for name in stored if not np.array_equal(stored[name], row[name])]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("codec", ["q8", "i8", "jpeg"])
def test_index_says_where_the_bytes_lie(make_store: MakeStore, codec: str) -> None:
    path = make_store("a", "b", options=make_options(flow_codec=codec))
    raw = path.read_bytes()
    with h5py.File(path) as file:
        index = file["index"]
        crcs = {
            field: [crc for name in "ab" for crc in file[f"videos/{name}/{dataset}"][()].tolist()]
            for field, dataset in (("flow", "flow_crc32"), ("frame", "frames_crc32"))
        }
        for field, expected in crcs.items():
            places = zip(
                index[f"{field}_addr"][()].tolist(), index[f"{field}_nbytes"][()].tolist(), strict=True
            )
            assert [zlib.crc32(raw[start : start + size]) for start, size in places] == expected


@pytest.mark.parametrize(
    ("codec", "frames", "expected"),
    [
        ("i8", "jpeg", "flow_addr flow_nbytes flow_crc32 flow_scale frame_addr frame_nbytes frame_crc32"),
        ("i16", "none", "flow_addr flow_nbytes flow_crc32 flow_scale"),
        ("jpeg", "jpeg", "flow_addr flow_nbytes flow_crc32 frame_addr frame_nbytes frame_crc32"),
    ],
)
def test_arrays_are_those_of_the_codec_and_of_the_frames(
    make_store: MakeStore, codec: str, frames: str, expected: str
) -> None:
    options = make_options(flow_codec=codec, frame_codec=frames)
    assert array_names(options) == expected.split()
    with h5py.File(make_store("a", "b", options=options)) as file:
        assert sorted(file["index"]) == sorted([*expected.split(), "rows_crc32", "file_crc32", "videos"])
        per_pair = options.codec.storage.chunks_per_item
        for name in expected.split():
            field, kind = name.split("_")
            count = N_FRAMES if field == "frame" else (N_FRAMES - 1) * per_pair
            dataset = file[f"index/{name}"]
            assert (dataset.shape, dataset.dtype) == ((2 * count,), np.dtype(DTYPES[kind]))
            assert dataset.chunks is None  # contiguous: a reader fetches slices


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_frames_have_their_own_storage_and_every_field_the_codecs(codec: str) -> None:
    options = make_options(flow_codec=codec, fields=TWO_FIELDS)
    assert list(address_names(options)) == ["flow", "flow_backward", "frame"]
    assert storage_of("frame", options) is FRAMES
    assert storage_of("flow_backward", options) is options.codec.storage


def test_addresses_of_each_field_lead_to_its_codes(make_store: MakeStore) -> None:
    options = make_options(fields=TWO_FIELDS)
    path = make_store("a", "b", options=options)
    raw = path.read_bytes()
    with h5py.File(path) as file:
        for field in ("flow", "flow_backward"):
            starts, sizes, scales = (
                file[f"index/{field}_{kind}"][()] for kind in ("addr", "nbytes", "scale")
            )
            for k in range(2 * (N_FRAMES - 1)):
                video, pair = divmod(k, N_FRAMES - 1)
                group = file[f"videos/{'ab'[video]}"]
                chunk = raw[starts[k] : starts[k] + sizes[k]]
                assert zlib.decompress(chunk) == group[field][pair].tobytes()
                assert scales[k] == group[f"{field}_scale"][pair]


def test_each_row_has_the_checksum_of_its_id_and_its_slices(make_store: MakeStore) -> None:
    options = make_options()
    with h5py.File(make_store("a", "b/c", options=options)) as file:
        crcs = file["index/rows_crc32"][()].tolist()
        for k, video_id in enumerate(("a", "b/c")):
            data = video_id.encode()
            for name in array_names(options):
                count = N_FRAMES if name.startswith("frame") else N_FRAMES - 1
                data += file[f"index/{name}"][k * count : (k + 1) * count].tobytes()
            assert crcs[k] == zlib.crc32(data)


def test_a_rows_checksum_depends_on_id_values_and_order() -> None:
    one, two = np.array([1, 2], "<i8"), np.array([3], "<u4")
    expected = row_crc("a", [one, two])
    assert expected == zlib.crc32(b"a" + one.tobytes() + two.tobytes())
    assert len({expected, row_crc("b", [one, two]), row_crc("a", [two, one]), row_crc("a", [one])}) == 4


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_a_changed_entry_is_named_by_its_array(make_store: MakeStore, codec: str) -> None:
    options = make_options(flow_codec=codec)
    with h5py.File(make_store("a", "b", options=options), "r+") as file:
        assert differing(file, ["a", "b"], options) == []
        for name in [*array_names(options), "rows_crc32"]:
            whole = file[f"index/{name}"][()]
            file[f"index/{name}"][-1] = whole[-1] + 1
            assert differing(file, ["a", "b"], options) == [name]
            file[f"index/{name}"][...] = whole


def test_another_order_of_the_videos_is_another_index(make_store: MakeStore) -> None:
    options = make_options()
    with h5py.File(make_store("a", "b", options=options)) as file:
        wrong = differing(file, ["b", "a"], options)
    assert {"flow_addr", "flow_crc32", "frame_addr", "frame_crc32", "rows_crc32"} <= set(wrong)


def test_an_array_of_another_type_is_refused(make_store: MakeStore) -> None:
    options = make_options()
    with h5py.File(make_store("a", options=options), "r+") as file:
        values = file["index/flow_addr"][()]
        del file["index/flow_addr"]
        file["index/flow_addr"] = values.astype("<i4")
        with pytest.raises(StoreFormatError, match="has type int32, expected <i8"):
            differing(file, ["a"], options)


def test_an_array_of_another_length_is_refused(make_store: MakeStore) -> None:
    options = make_options()
    with (
        h5py.File(make_store("a", "b", options=options)) as file,
        pytest.raises(StoreError, match=r"flow_addr.*shape"),
    ):
        index_arrays(file, [make_record("a")], options)


@pytest.mark.parametrize("name", ["pts", "flow_scale"])
def test_an_array_that_fails_its_checksum_spoils_the_checksum_of_its_row(
    make_store: MakeStore, name: str
) -> None:
    options = make_options()
    with h5py.File(make_store("a", options=options), "r+") as file:
        file[f"videos/a/{name}"][0] += 1
        row = stored_slices(file, "a", options)
        crc32 = int(row.pop("rows_crc32")[0])
        assert crc32 ^ 0xFFFFFFFF == row_crc("a", row.values())


def test_an_index_of_no_videos_has_all_arrays_empty(tmp_path: Path) -> None:
    options = make_options()
    with hdf5_writer(tmp_path / "x.h5") as file:
        write_addresses(file, [], options)
        assert differing(file, [], options) == []
        assert {len(file[f"index/{name}"]) for name in [*array_names(options), "rows_crc32"]} == {0}
