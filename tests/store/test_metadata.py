"""The block of metadata, its copies for plain h5py, and what is left of them after damage."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError
from flowkit.store.codecs import FLOW_CODECS
from flowkit.store.hdf5_file import hdf5_writer
from flowkit.store.metadata import (
    Metadata,
    proofs_of,
    read_metadata,
    read_proofs,
    read_records,
    recover,
    write_metadata,
    write_record,
    wrong_attributes,
)
from flowkit.store.open_file import open_file
from flowkit.store.read.store import open_store
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.tools.combine import merge
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from tests.make.stores import change_metadata, make_format_1_0, replace_metadata
from tests.store.conftest import MakePart, MakeStore, make_flow, make_options, make_record


def flip(path: Path, at: int, mask: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= mask
    path.write_bytes(raw)


def block_at(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["metadata"].id.get_offset())


def test_it_comes_back_and_plain_h5py_has_the_same_as_text(tmp_path: Path, options: StoreOptions) -> None:
    metadata = Metadata(
        options=options, labels=("b", "日本"), records={"a/b": make_record("a/b")}, next_shard=3
    )
    with hdf5_writer(tmp_path / "x.h5") as file:
        write_metadata(file, metadata)
    with h5py.File(tmp_path / "x.h5") as file:
        assert read_metadata(file) == metadata
        assert {name: file.attrs[name] for name in metadata.to_attrs()} == metadata.to_attrs()
        assert file.attrs["format_version"] == "1.1"
        assert wrong_attributes(file, metadata) == []
        block = json.loads(file["metadata"][()].tobytes())
        assert block["labels"] == ["b", "日本"]
        assert file["metadata"].attrs["crc32"] == zlib.crc32(file["metadata"][()].tobytes())


def test_a_part_has_its_record_in_the_block(make_part: MakePart, store_path: Path) -> None:
    record = make_part("a/b", start_seconds=1.5)
    (path,) = (store_path.parent / "out.h5.parts").glob("*.h5")
    with open_file(path) as file:
        assert file.metadata.records == {"a/b": record}


def test_text_of_the_heap_that_is_changed_is_never_read(make_store: MakeStore) -> None:
    path = make_store("a")
    raw = path.read_bytes()
    # The block comes last: text before it is the attributes'.
    flip(path, raw.index(b"half to even"), 2)
    with h5py.File(path) as plain:
        assert plain.attrs["rounding"] != "half to even"
    with open_file(path) as file:
        assert not file.damage
        assert wrong_attributes(file, file.metadata) == ["rounding"]


def test_a_damaged_block_is_refused_and_recovered_from_what_its_checksum_proves(
    make_store: MakeStore, options: StoreOptions
) -> None:
    path = make_store("x/a", "y/b")
    with open_file(path) as file:
        whole = file.metadata
    flip(path, block_at(path) + 40)
    with pytest.raises(StoreCorruptError, match=r"/metadata of .*out.h5 fails its CRC; .*--repair"):
        open_file(path)
    with open_file(path, recovers=True) as file:
        assert file.metadata == whole
        assert "fails its CRC" in file.damage


def test_copies_that_the_checksum_does_not_prove_are_not_taken(make_store: MakeStore) -> None:
    path = make_store("a")
    flip(path, path.read_bytes().index(b"half to even"), 2)
    flip(path, block_at(path) + 40)
    with pytest.raises(StoreCorruptError, match="fails its CRC"):
        open_file(path, recovers=True)


def test_files_of_format_1_0_are_read_by_their_attributes(make_store: MakeStore) -> None:
    path = make_store("x/a", "y/b")
    with open_file(path) as file:
        whole = file.metadata
    with h5py.File(path, "r+") as file:
        make_format_1_0(file)
    with open_file(path) as file:
        assert (file.metadata.options, file.metadata.labels) == (whole.options, whole.labels)
        assert (file.metadata.uuid, file.metadata.format_version) == (whole.uuid, "1.0")


@pytest.mark.parametrize("codec", FLOW_CODECS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_stores_of_both_formats_are_read_whatever_their_codec(
    make_store: MakeStore, codec: str, version: str
) -> None:
    path = make_store("x/a", options=make_options(flow_codec=codec))
    with h5py.File(path, "r+") as file:
        if version == "1.0":
            make_format_1_0(file)
    with open_store(path) as store:
        assert (store.options.flow_codec, store.info().format_version) == (codec, version)
        flow, tolerance = store["x/a"].flow(), {"jpeg": 2.0}.get(codec, 1 / 8)
        assert np.abs(flow - np.clip(make_flow(0, len(flow)), -20, 20)).max() <= tolerance
    assert verify(path).sound


def test_class_names_of_format_1_0_that_are_damaged_are_left_out(make_store: MakeStore) -> None:
    path = make_store("x/a")
    with h5py.File(path, "r+") as file:
        make_format_1_0(file)
        del file["labels"]
        file["labels"] = np.arange(3)
    with pytest.raises(StoreFormatError, match=r"/labels of .* has"):
        open_file(path)
    with h5py.File(path) as file:
        metadata, damage = recover(file)
    assert metadata.labels == ()
    assert "/labels" in damage


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"attributes": 1, "labels": [], "videos": {}}',
        b'{"attributes": {}, "labels": 1, "videos": {}}',
        b'{"attributes": {"format": "flowkit-store", "format_version": "1.1"}, "labels": [], "videos": {}}',
        b'{"attributes": {"format": "flowkit-store", "format_version": 1e999}, "labels": [], "videos": []}',
    ],
)
def test_blocks_that_no_flowkit_writes_are_refused(make_store: MakeStore, block: bytes) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        replace_metadata(file, block)
    with pytest.raises(StoreError):
        open_file(path)


def test_a_foreign_hdf5_file_is_no_store(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(StoreFormatError, match=r"x\.h5 is an HDF5 file but no flowkit store"):
        open_file(tmp_path / "x.h5")


def test_attributes_changed_by_another_program_are_named(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        file.attrs["step"] = 2
        file.attrs["tvl1_preset"] = "other"
    with open_file(path) as opened:
        assert wrong_attributes(opened, opened.metadata) == ["tvl1_preset", "step"]


def test_a_newer_minor_version_may_have_more(make_store: MakeStore) -> None:
    path = make_store("a")
    with h5py.File(path, "r+") as file:
        change_metadata(file, format_version="1.9", new="x")
    with open_file(path) as opened:
        assert opened.metadata.format_version == "1.9"


def test_records_of_groups_prove_themselves(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        file["videos/a"].attrs["source_name"] = "another"
        write_record(file["videos/b"], make_record("b", label="new"), {})
    with h5py.File(path) as file:
        found = read_records(file, ["a", "b"])
    assert isinstance(found["a"], StoreCorruptError)
    assert isinstance(found["b"], VideoRecord)
    assert found["b"].label == "new"


def test_times_and_scales_have_a_crc_that_goes_with_copies(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    with h5py.File(path) as file:
        group = file["videos/a"]
        assert read_proofs(group) == proofs_of({name: group[name][()] for name in group})
        assert read_proofs(group)["pts_crc32"] == zlib.crc32(group["pts"][()].tobytes())
        assert group["pts"].fletcher32


@pytest.mark.parametrize("name", ["pts", "flow_scale"])
def test_what_fletcher_does_not_see_is_found(make_store: MakeStore, name: str) -> None:
    path = make_store("a", "b")
    with h5py.File(path) as file:
        chunk = file[f"videos/a/{name}"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\0\0", chunk.byte_offset)
    assert at < chunk.byte_offset + chunk.size
    at += (at - chunk.byte_offset) % 2  # Fletcher's sum is of words
    assert raw[at : at + 2] == b"\0\0"
    raw[at : at + 2] = b"\xff\xff"
    path.write_bytes(raw)
    with h5py.File(path) as plain:
        assert plain[f"videos/a/{name}"][()].any(), "HDF5 reads it"
    with open_store(path, access="h5py") as store:
        with pytest.raises(StoreCorruptError, match=rf"/videos/a/{name} of .* fails its CRC"):
            _ = store["a"].pts, store["a"].flow()
        assert store["b"].pts.any()
    assert list(verify(path).videos) == ["a"]
    copy = path.with_name("copy.h5")
    merge([path], copy)
    assert list(verify(copy).videos) == ["a"]
    assert repair(path).dropped == ("a",)
