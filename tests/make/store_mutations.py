"""Damaged files of small stores, by a seed: bits, runs, cuts, shifts, absurd numbers, and aimed flips.

A mutation follows from the seed and its number alone, on bases of one layout (`store_bases`).
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import h5py
import numpy as np

from tests.make.store_bases import Base

Range = tuple[int, int]
"""First byte, and the one after the last."""

FIRST_TARGETED = 1_000_000
"""Numbers from here on flip one bit in a place of `TARGETS`."""
TARGETS = ("text", "labels", "index", "addresses", "failures")
"""Text and names of the root's attributes; the class names; the table of the videos; their chunks' addresses;
the ledger of failures (and the table of shards, which has no other)."""

_ABSURD = (0, 2**64 - 1, 2**63 - 1, 2**31, 2**32 - 1, 2**40)
_SIGNATURE = re.compile(
    rb"\x89HDF\r\n|OHDR|OCHK|GCOL|TREE|SNOD|HEAP|FRHP|FHDB|FHIB|BTHD|BTIN|BTLF|FAHD|FADB|EAHD|EAIB|FSHD"
)
_HEADER_BYTES = 48
_SHORTEST_TEXT = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One damaged file of a store."""

    seed: int
    number: int
    kind: str
    base: str
    file: str
    """Path below the store's folder."""
    detail: str
    """Place and size of the damage."""
    data: bytes
    """The file's new contents."""

    @property
    def targeted(self) -> bool:
        return self.number >= FIRST_TARGETED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Byte ranges of a sound file."""

    outside: tuple[Range, ...]
    """All but what the datasets of the videos store."""
    structure: tuple[Range, ...]
    """The beginnings of HDF5's own blocks: superblock, object headers, heaps, trees."""
    heap: tuple[Range, ...]
    """Headers of the global heap, which no checksum of HDF5's covers, and of the texts in it."""
    targets: Mapping[str, tuple[Range, ...]]
    """By the names of `TARGETS`, those that the file has."""


class _Damage:
    """The ways to damage bytes; each returns the damaged copy and where."""

    def __init__(self, data: bytes, places: Places, random: np.random.Generator) -> None:
        self.data, self.places, self.random = data, places, random

    def _at(self) -> int:
        """Return a place: every other one outside the videos' data, of which most bytes are."""
        if self.places.outside and self.random.integers(2):
            return self._within(self.places.outside)
        return int(self.random.integers(len(self.data)))

    def _within(self, ranges: Sequence[Range]) -> int:
        start, stop = ranges[int(self.random.integers(len(ranges)))]
        return int(self.random.integers(start, stop))

    def _run(self, most: int = 512) -> Range:
        at = self._at()
        return at, min(len(self.data), at + int(self.random.integers(1, most)))

    def _replaced(self, start: int, stop: int, by: bytes) -> tuple[bytes, str]:
        return self.data[:start] + by + self.data[stop:], f"[{start}, {stop}) of {len(self.data)}"

    def flip(self, at: int) -> tuple[bytes, str]:
        bit = int(self.random.integers(8))
        data, _ = self._replaced(at, at + 1, bytes([self.data[at] ^ 1 << bit]))
        return data, f"bit {bit} of byte {at} of {len(self.data)}"

    def bit(self) -> tuple[bytes, str]:
        return self.flip(self._at())

    def byte(self) -> tuple[bytes, str]:
        at = self._at()
        return self._replaced(at, at + 1, self.random.bytes(1))

    def zeros(self) -> tuple[bytes, str]:
        start, stop = self._run()
        return self._replaced(start, stop, b"\0" * (stop - start))

    def ones(self) -> tuple[bytes, str]:
        start, stop = self._run()
        return self._replaced(start, stop, b"\xff" * (stop - start))

    def random_run(self) -> tuple[bytes, str]:
        start, stop = self._run()
        return self._replaced(start, stop, self.random.bytes(stop - start))

    def swap(self) -> tuple[bytes, str]:
        size = int(self.random.choice([8, 64, 512]))
        first, second = sorted(self._at() // size * size for _ in range(2))
        damaged = bytearray(self.data)
        one, two = damaged[first : first + size], damaged[second : second + size]
        damaged[second : second + size] = one[: len(two)]
        damaged[first : first + len(two)] = two
        return bytes(damaged), f"blocks of {size} at {first} and {second} of {len(self.data)}"

    def cut(self) -> tuple[bytes, str]:
        return self._replaced(self._at(), len(self.data), b"")

    def append(self) -> tuple[bytes, str]:
        end = len(self.data)
        return self._replaced(end, end, self.random.bytes(int(self.random.integers(1, 4096))))

    def double(self) -> tuple[bytes, str]:
        start, stop = self._run(4096)
        return self._replaced(stop, stop, self.data[start:stop])

    def hole(self) -> tuple[bytes, str]:
        return self._replaced(*self._run(), b"")

    def number(self) -> tuple[bytes, str]:
        at = min(self._at(), len(self.data) - 8) // 4 * 4
        value = _ABSURD[self.random.integers(len(_ABSURD))]
        return self._replaced(at, at + 8, value.to_bytes(8, "little"))

    def structure(self) -> tuple[bytes, str]:
        return self.flip(self._within(self.places.structure))

    def heap(self) -> tuple[bytes, str]:
        return self.flip(self._within(self.places.heap or self.places.structure))

    def target(self, name: str) -> tuple[bytes, str]:
        return self.flip(self._within(self.places.targets[name]))


_WAYS: Mapping[str, Callable[[_Damage], tuple[bytes, str]]] = {
    "bit": _Damage.bit,
    "byte": _Damage.byte,
    "zeros": _Damage.zeros,
    "ones": _Damage.ones,
    "random": _Damage.random_run,
    "swap": _Damage.swap,
    "cut": _Damage.cut,
    "append": _Damage.append,
    "double": _Damage.double,
    "hole": _Damage.hole,
    "number": _Damage.number,
    "structure": _Damage.structure,
    "heap": _Damage.heap,
}
KINDS = tuple(_WAYS)


def mutant(bases: Sequence[Base], seed: int, number: int) -> Mutant:
    """Return a mutation by its number: every base, and on each of them every kind, in turn."""
    random = np.random.default_rng((seed, number))
    base, turn = bases[number % len(bases)], number // len(bases)
    files = list(base.files)
    if number >= FIRST_TARGETED:
        kind = TARGETS[turn % len(TARGETS)]
        files = [name for name in files if kind in places(base.files[name]).targets]
    else:
        kind = KINDS[turn % len(KINDS)]
    file = files[random.integers(len(files))]
    damage = _Damage(base.files[file], places(base.files[file]), random)
    data, detail = base.files[file], ""
    while data == base.files[file]:  # zeros over zeros are no damage
        data, detail = damage.target(kind) if number >= FIRST_TARGETED else _WAYS[kind](damage)
    return Mutant(seed=seed, number=number, kind=kind, base=base.name, file=file, detail=detail, data=data)


@functools.lru_cache(maxsize=64)
def places(data: bytes) -> Places:
    """Return the places of a sound file."""
    with h5py.File(io.BytesIO(data)) as file:
        stored = dict(_datasets(file))
        texts = [*file.attrs, *(value for value in file.attrs.values() if isinstance(value, str))]
        labels, ids = _texts(file, "labels", "label"), _texts(file, "index/videos", "id")
    chunks = sorted(one for name, ranges in stored.items() if name.startswith("videos/") for one in ranges)
    outside = tuple(_complement(chunks, len(data)))

    def found(*names: str, texts: Sequence[str] = ()) -> tuple[Range, ...]:
        ranges = [one for name in names for one in stored.get(name, ())]
        return (*ranges, *_occurrences(data, texts, outside))

    targets = {
        "text": found(texts=texts),
        "labels": found("labels", texts=labels),
        "index": found("index/videos", texts=ids),
        "addresses": found(
            *(name for name in stored if name.startswith("index/") and name != "index/videos")
        ),
        "failures": found("failures", "shard_table"),
    }
    structure = tuple(
        (hit.start(), min(len(data), hit.start() + _HEADER_BYTES))
        for hit in _SIGNATURE.finditer(data)
        if _is_within(hit.start(), outside)
    )
    return Places(
        outside=outside,
        structure=structure,
        heap=tuple(one for start, _ in structure for one in _heap_headers(data, start)),
        targets={name: ranges for name, ranges in targets.items() if ranges},
    )


def _datasets(file: h5py.File) -> Iterator[tuple[str, list[Range]]]:
    """Yield the path and the stored ranges of each dataset; links to other files are left out."""
    names: list[str] = []
    file.visit(names.append)
    for name in names:
        node = file[name]
        if isinstance(node, h5py.Dataset):
            yield name, list(_stored(node))


def _stored(dataset: h5py.Dataset) -> Iterator[Range]:
    if dataset.chunks is not None:
        for k in range(dataset.id.get_num_chunks()):
            info = dataset.id.get_chunk_info(k)
            yield info.byte_offset, info.byte_offset + info.size
    elif dataset.id.get_offset() is not None and dataset.id.get_storage_size():
        yield dataset.id.get_offset(), dataset.id.get_offset() + dataset.id.get_storage_size()


def _heap_headers(data: bytes, start: int) -> Iterator[Range]:
    """Yield the headers of a global heap collection: id, count, size, for each text in it."""
    if data[start : start + 4] != b"GCOL":
        return
    yield start, start + 16
    end = min(len(data), start + int.from_bytes(data[start + 8 : start + 16], "little"))
    at = start + 16
    while at + 16 <= end:
        yield at, at + 16
        if not int.from_bytes(data[at : at + 2], "little"):  # number 0 is the free space at the end
            return
        size = int.from_bytes(data[at + 8 : at + 16], "little")
        at += 16 + (size + 7) // 8 * 8


def _texts(file: h5py.File, name: str, column: str) -> list[str]:
    return [row.decode() for row in file[name][:][column].tolist()] if name in file else []


def _complement(ranges: Sequence[Range], size: int) -> Iterator[Range]:
    at = 0
    for start, stop in [*ranges, (size, size)]:
        if at < start:
            yield at, start
        at = max(at, stop)


def _occurrences(data: bytes, texts: Sequence[str], ranges: Sequence[Range]) -> Iterator[Range]:
    for text in sorted({text.encode() for text in texts if len(text.encode()) >= _SHORTEST_TEXT}):
        for hit in re.finditer(re.escape(text), data):
            if _is_within(hit.start(), ranges):
                yield hit.span()


def _is_within(at: int, ranges: Sequence[Range]) -> bool:
    return any(start <= at < stop for start, stop in ranges)
