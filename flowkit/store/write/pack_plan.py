"""The plan of packing: the files that a store will have, and the sources of the videos of each.

Pure: plain values in, plain values out, nothing is read or written. `flowkit.store.write.pack`
carries a plan out file by file. A kill between any two of its steps leaves each video in some
valid file: the videos of files removed at the end are in files committed before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Literal, TypeAlias

from flowkit.store.index import NO_SHARD
from flowkit.store.inventory import Files, shard_number

Sources: TypeAlias = Mapping[Path, Sequence[str]]
"""Files to copy from, and the ids to take from each."""

Action: TypeAlias = Literal["packed", "rewritten", "linked", "kept"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """The files of a store and of its parts, and the videos that each holds."""

    files: Files
    stored: Mapping[str, Path]
    """The committed file of each video: the store's own or a shard."""
    parts: Mapping[str, Path]
    """Parts of videos that no committed file holds."""
    repeated: Mapping[str, Path]
    """Parts of videos that a committed file holds too."""
    superseded: Set[Path]
    """Committed files with a video that a newer shard holds too; the newer one is valid."""
    sizes: Mapping[Path, int]
    """Bytes of the parts and of the store's own file."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PackRules:
    """Rules of a run for the store that it makes."""

    shard_bytes: int
    """The size beyond which a store is split, and of its new shards."""
    replace: Set[str] = frozenset()
    """Ids whose repeated part, where there is one, replaces the stored video."""
    drop: Set[str] = frozenset()
    """Ids to leave out."""

    def replaced(self, held: Holdings) -> Set[str]:
        """Return the ids whose part replaces the stored video."""
        return (self.replace & held.repeated.keys()) - self.drop


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """One file of the planned store, with its videos.

    `packed` is written from parts, which are superfluous once it is committed; `rewritten` is
    written from committed files, of which not all stays; `linked` is the single file as it is, under
    the name of a shard; `kept` stays as it is.
    """

    action: Action
    number: int
    """Number of the shard; NO_SHARD: the store's own file."""
    sources: Sources

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Ids of its videos, sorted."""
        return tuple(sorted(video_id for ids in self.sources.values() for video_id in ids))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PackPlan:
    """The files that a store will consist of, in the order in which they are made."""

    changed: bool
    """True if anything is to be written."""
    sharded: bool
    """The videos are in shards, which a master names once all are there; or else in one file."""
    files: tuple[PlannedFile, ...]
    removed: tuple[Path, ...] = ()
    """Files that are superfluous when all is committed, in the order of removal."""

    @property
    def shards(self) -> dict[str, int]:
        """The shard of each video, as the master names it."""
        return {video_id: file.number for file in self.files for video_id in file.video_ids}

    @property
    def paths(self) -> dict[str, Path]:
        """The file that each video is in now, by sorted id."""
        found = {k: path for file in self.files for path, ids in file.sources.items() for k in ids}
        return dict(sorted(found.items()))


def plan_pack(held: Holdings, rules: PackRules, *, lists_changed: bool) -> PackPlan:
    """Plan the files of a store; existing shards stay where all of their videos do.

    Parameters
    ----------
    lists_changed
        True if the class names or the failures differ from those stored.
    """
    replaced = rules.replaced(held)
    outdated = replaced | (rules.drop & held.stored.keys())
    paths = {k: path for k, path in {**held.stored, **held.parts}.items() if k not in rules.drop}
    paths |= {k: held.repeated[k] for k in replaced}
    paths = dict(sorted(paths.items()))
    fresh = {k: path for k, path in paths.items() if k in replaced or k in held.parts}
    new = bool(fresh or outdated or held.files.pending)
    changed = new or lists_changed or not held.files.exists
    sharded = not _fits_one_file(held, paths.values(), bool(fresh), rules.shard_bytes)
    if sharded:
        packed = _packed(fresh, held, rules.shard_bytes)
        files = (*packed, *_remaining(paths, outdated, held, held.files.next_shard + len(packed)))
    else:
        files = (_single(paths, changed=changed),) if paths or changed else ()
    shards = _unnamed_shards(held.files, files) if changed else held.files.leftover
    return PackPlan(
        changed=changed,
        sharded=sharded,
        files=files,
        removed=(*fresh.values(), *held.repeated.values(), *shards),
    )


def divided(sizes: Mapping[str, float], shard_bytes: int) -> list[tuple[str, ...]]:
    """Divide videos among files of at most `shard_bytes`, in order; a larger one has a file to itself.

    Parameters
    ----------
    sizes
        Bytes of each video.
    """
    groups: list[list[str]] = []
    filled = 0.0
    for video_id, size in sizes.items():
        if not groups or filled + size > shard_bytes:
            groups.append([])
            filled = 0.0
        groups[-1].append(video_id)
        filled += size
    return [tuple(group) for group in groups]


def sources_of(video_ids: Iterable[str], paths: Mapping[str, Path]) -> dict[Path, list[str]]:
    """Group videos by the file that holds them."""
    sources: dict[Path, list[str]] = {}
    for video_id in video_ids:
        sources.setdefault(paths[video_id], []).append(video_id)
    return sources


def _fits_one_file(held: Holdings, paths: Iterable[Path], grows: bool, shard_bytes: int) -> bool:
    files = held.files
    if files.table or files.pending or (files.exists and not files.single):
        return False
    return not grows or sum(held.sizes[path] for path in set(paths)) <= shard_bytes


def _single(paths: Mapping[str, Path], *, changed: bool) -> PlannedFile:
    action: Action = "rewritten" if changed else "kept"
    return PlannedFile(action=action, number=NO_SHARD, sources=sources_of(paths, paths))


def _packed(fresh: Mapping[str, Path], held: Holdings, shard_bytes: int) -> list[PlannedFile]:
    """Return shards of the parts: first of all, so that parts can be removed early."""
    groups = divided({k: held.sizes[path] for k, path in fresh.items()}, shard_bytes)
    return [
        PlannedFile(action="packed", number=number, sources=sources_of(group, fresh))
        for number, group in enumerate(groups, start=held.files.next_shard)
    ]


def _remaining(
    paths: Mapping[str, Path], outdated: Set[str], held: Holdings, number: int
) -> Iterator[PlannedFile]:
    """Yield the plan of each committed file; those to write are numbered from `number` on."""
    stay = sources_of(paths, paths)
    spoiled = {held.stored[k] for k in outdated if k in held.stored} | held.superseded
    for path in sorted(set(held.stored.values())):
        action: Action = "linked" if path == held.files.store_path else "kept"
        if path in spoiled:
            action = "rewritten"
        if path not in stay:
            continue
        if action == "kept":
            yield PlannedFile(action=action, number=shard_number(path.name), sources={path: stay[path]})
        else:
            yield PlannedFile(action=action, number=number, sources={path: stay[path]})
            number += 1


def _unnamed_shards(files: Files, planned: Sequence[PlannedFile]) -> tuple[Path, ...]:
    """Return the existing shards that the store will not consist of, by number."""
    named = {file.number for file in planned}
    existing = {*(files.shards / shard.name for shard in files.table), *files.pending, *files.leftover}
    found = [path for path in existing if shard_number(path.name) not in named]
    return tuple(sorted(found, key=lambda path: shard_number(path.name)))
