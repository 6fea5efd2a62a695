"""Byte strings in HDF5: what is added is what lies at the addresses, and what plain h5py reads."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.store.checked_hdf5 import VideoArrays
from flowkit.store.codecs import flow_codec, storage
from flowkit.store.codecs.jpeg import JpegCodec
from flowkit.store.codecs.scaled import FieldScaleCodec, FixedStepCodec
from flowkit.store.codecs.storage import (
    FRAMES,
    GROWTH,
    ChunkStorage,
    FlatStorage,
    Storage,
    chunk_crcs,
)
from flowkit.store.hdf5_file import DatasetCreator, hdf5_writer

SIZE = (6, 5)
PAIRS = FlatStorage(suffix="_jpeg", chunks_per_item=2, bytes_a_pixel=1)
STORAGES = {"chunks": FieldScaleCodec.storage, "shuffled": FixedStepCodec.storage, "flat": PAIRS}
EVERY = pytest.mark.parametrize("kept", STORAGES.values(), ids=STORAGES)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    """A file that is being written as a part is."""
    with hdf5_writer(tmp_path / "x.h5") as opened:
        yield opened


def items(kept: Storage, count: int) -> list[tuple[bytes, ...]]:
    """Return byte strings of several lengths: chunks of noise, or texts."""
    rng = np.random.default_rng(0)
    if not isinstance(kept, ChunkStorage):
        return [tuple(rng.bytes(3 * k + j) for j in range(kept.chunks_per_item)) for k in range(count)]
    codec = flow_codec("i16" if kept.shuffled else "i8")
    return [codec.encode(rng.normal(0, 4, (2, *SIZE)).astype(np.float32)).chunks for _ in range(count)]


def store(group: h5py.Group, name: str, kept: Storage, added: list[tuple[bytes, ...]], folder: Path) -> None:
    """Write items as a part does; the scale of item k is k + 1."""
    made = DatasetCreator(group)
    writer = kept.create(made, name, size=SIZE, folder=folder)
    for k, chunks in enumerate(added):
        assert writer.count == k
        writer.add(chunks, chunk_crcs(chunks), k + 1)
    for beside, (values, fill) in writer.finish().items():
        made.array(beside, values, fill=fill)
    assert writer.count == len(added)
    writer.close()


@pytest.mark.parametrize("count", [0, GROWTH, GROWTH + 1])
def test_a_dataset_that_grows_in_steps_ends_with_its_entries(count: int, tmp_path: Path) -> None:
    kept = FieldScaleCodec.storage
    with hdf5_writer(tmp_path / "x.h5") as file:
        store(file, "flow", kept, items(kept, 1) * count, tmp_path)
    with h5py.File(tmp_path / "x.h5") as file:
        assert len(file["flow"]) == len(file["flow_crc32"]) == kept.count_stored(file, "flow") == count


@EVERY
def test_the_bytes_at_the_addresses_are_those_that_were_added(kept: Storage, tmp_path: Path) -> None:
    added, path = items(kept, 5), tmp_path / "x.h5"
    with hdf5_writer(path) as file:
        store(file, "flow", kept, added, tmp_path)
    with h5py.File(path) as file:
        found = kept.addresses(VideoArrays(file), "flow")
        assert kept.count_stored(file, "flow") == 5
    raw, strings = path.read_bytes(), [chunk for chunks in added for chunk in chunks]
    places = zip(found["addr"].tolist(), found["nbytes"].tolist(), strict=True)
    assert [raw[start : start + size] for start, size in places] == strings
    assert found["crc32"].tolist() == [zlib.crc32(chunk) for chunk in strings]
    assert tuple(found) == kept.index_arrays
    if kept.deflated:
        assert found["scale"].tolist() == [1, 2, 3, 4, 5]


@EVERY
def test_no_items_make_datasets_of_length_zero(kept: Storage, file: h5py.File, tmp_path: Path) -> None:
    store(file, "flow", kept, [], tmp_path)
    assert kept.count_stored(file, "flow") == 0
    assert {
        name: len(values) for name, values in kept.addresses(VideoArrays(file), "flow").items()
    } == dict.fromkeys(kept.index_arrays, 0)


@pytest.mark.parametrize("name", ["q8", "i8", "i16"])
def test_a_chunk_is_one_field_that_plain_h5py_reads(name: str, file: h5py.File, tmp_path: Path) -> None:
    codec, rng = flow_codec(name), np.random.default_rng(0)
    made = [codec.quantizer.quantize(rng.normal(0, 4, (2, *SIZE)).astype(np.float32)) for _ in range(3)]
    store(file, "flow", codec.storage, [codec.pack(one.codes) for one in made], tmp_path)
    dataset = file["flow"]
    assert (dataset.dtype, dataset.chunks) == (codec.dtype, (1, 2, *SIZE))
    assert (dataset.compression, dataset.shuffle) == ("gzip", name == "i16")
    assert dataset.fillvalue == codec.storage.fill
    assert np.array_equal(dataset[()], np.stack([one.codes for one in made]))


def test_a_chunk_that_was_never_written_is_not_counted_and_reads_as_the_fill(
    file: h5py.File, tmp_path: Path
) -> None:
    kept = FieldScaleCodec.storage
    store(file, "flow", kept, items(kept, 2), tmp_path)
    file["flow"].resize(3, axis=0)
    assert kept.count_stored(file, "flow") == 2
    assert np.all(file["flow"][2] == kept.fill)


def test_offsets_delimit_strings_end_to_end(file: h5py.File, tmp_path: Path) -> None:
    store(file, "flow", PAIRS, [(b"abc", b""), (b"de", b"fghi")], tmp_path)
    assert file["flow_jpeg"][()].tobytes() == b"abcdefghi"
    assert file["flow_offset"][()].tolist() == [0, 3, 3, 5, 9]
    assert sorted(file) == ["flow_crc32", "flow_jpeg", "flow_offset"]
    assert PAIRS.count_stored(file, "flow") == 2
    store(file, "frames", FRAMES, [(b"xy",), (b"z",)], tmp_path)
    assert file["frames"][()].tobytes() == b"xyz"


def test_long_strings_wait_in_a_file_without_a_name_and_come_back(
    file: h5py.File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SPOOL_BYTES", 1000)
    monkeypatch.setattr(storage, "COPY_BYTES", 700)
    folder = tmp_path / "spools"
    folder.mkdir()
    data = [np.random.default_rng(k).bytes(900) for k in range(4)]
    writer = FRAMES.create(DatasetCreator(file), "frames", size=SIZE, folder=folder)
    for k, one in enumerate(data):
        writer.add((one,), chunk_crcs([one]), 1.0)
        assert len(open_files_below(folder)) == (k > 0)
    assert list(folder.iterdir()) == []
    writer.finish()
    writer.close()
    assert open_files_below(folder) == []
    assert file["frames"][()].tobytes() == b"".join(data)


def open_files_below(folder: Path) -> list[Path]:
    """Return the files, named or not, that this process has open in a folder."""
    targets = [link.readlink() for link in list(Path("/proc/self/fd").iterdir()) if link.is_symlink()]
    return [path for path in targets if folder in path.parents]


class Source:
    """Notes what a storage asks of a reader, and hands out names for it."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def dataset_chunks(self, dtype: np.dtype[np.number], shape: tuple[int, ...]) -> list[bytes]:
        self.asked.append((dtype, shape))
        return [b"chunks"]

    def flat_chunks(self, suffix: str, count: int, raw_bytes: int) -> list[bytes]:
        self.asked.append((suffix, count, raw_bytes))
        return [b"flat"]

    def scales(self, count: int) -> NDArray[np.float32]:
        self.asked.append(count)
        return np.ones(count, np.float32)


@pytest.mark.parametrize(
    ("kept", "asked", "scaled"),
    [
        (FieldScaleCodec.storage, [(np.dtype("i1"), (7, 2, 6, 5)), 7], True),
        (FixedStepCodec.storage, [(np.dtype("<i2"), (7, 2, 6, 5)), 7], True),
        (JpegCodec.storage, [("_jpeg", 14, 30)], False),
        (FRAMES, [("", 7, 90)], False),
    ],
)
def test_opening_asks_the_reader_for_the_datasets_of_all_items(
    kept: Storage, asked: list[object], scaled: bool
) -> None:
    source = Source()
    opened = kept.open(source, count=7, size=SIZE)  # type: ignore[arg-type]
    assert source.asked == asked
    assert (opened.scales is not None) == scaled
