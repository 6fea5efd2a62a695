"""Plans of packing, without files: `Disk` carries them out on sets of ids and can stop at any step."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit.store.index import NO_SHARD
from flowkit.store.inventory import Files, Shard, shard_name, shard_number
from flowkit.store.write.pack_plan import Holdings, PackPlan, PackRules, PlannedFile, divided, plan_pack

STORE = Path("data/out.h5")
SHARDS = Path("data/out.h5.shards")
PARTS = Path("data/out.h5.parts")
MANY = 1 << 30


def shard(number: int) -> Path:
    return SHARDS / shard_name(number)


@dataclasses.dataclass
class Disk:
    """The files of a store as the versions of the videos in them; a video's bytes are its version."""

    single: dict[str, int] | None = None
    master: dict[str, int] | None = None
    """The shard of each video."""
    next_shard: int = 0
    shards: dict[int, dict[str, int]] = dataclasses.field(default_factory=dict)
    parts: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return self.single is not None or self.master is not None

    def holdings(self) -> Holdings:
        named = set((self.master or {}).values())
        loose = sorted(self.shards.keys() - named)
        pending = [number for number in loose if number >= self.next_shard]
        stored = dict.fromkeys(self.single or {}, STORE)
        stored |= {k: shard(number) for k, number in (self.master or {}).items()}
        superseded = set()
        for number in pending:
            superseded |= {stored[k] for k in self.shards[number] if k in stored}
            stored |= dict.fromkeys(self.shards[number], shard(number))
        part = {k: PARTS / f"{k}.h5" for k in self.parts}
        return Holdings(
            files=Files(
                store_path=STORE,
                exists=self.exists,
                single=self.single is not None,
                table=tuple(Shard(name=shard_name(n), bytes=1, sha256="") for n in sorted(named)),
                pending=tuple(map(shard, pending)),
                leftover=tuple(shard(number) for number in loose if number < self.next_shard),
                next_shard=max([self.next_shard, *(number + 1 for number in self.shards)]),
            ),
            stored=stored,
            parts={k: path for k, path in part.items() if k not in stored},
            repeated={k: path for k, path in part.items() if k in stored},
            superseded=superseded,
            sizes={path: self.parts[k] for k, path in part.items()}
            | {STORE: sum((self.single or {}).values())},
        )

    def content(self, path: Path) -> dict[str, int]:
        if path == STORE:
            assert self.single is not None
            return self.single
        if path.parent == PARTS:
            return {path.stem: self.parts[path.stem]}
        return self.shards[shard_number(path.name)]

    def held(self) -> dict[str, int]:
        """The version of each video that counts."""
        now = self.holdings()
        return {k: self.content(path)[k] for k, path in {**now.stored, **now.parts}.items()}

    def steps(self, plan: PackPlan) -> Iterator[None]:
        """Carry a plan out as `pack.finalize` does; yield after each change of the disk."""
        for file in plan.files if plan.changed else ():
            if file.action == "kept":
                assert shard_number(next(iter(file.sources)).name) == file.number
                continue
            new = {k: self.content(path)[k] for path, ids in file.sources.items() for k in ids}
            if not plan.sharded:
                self.single = new
            else:
                assert file.number not in self.shards
                self.shards[file.number] = new
            yield
            for path in file.sources if file.action == "packed" else ():
                del self.parts[path.stem]
                yield
        if plan.changed and plan.sharded:
            self.single, self.master = None, plan.shards
            self.next_shard = max([self.next_shard, *(number + 1 for number in self.shards)])
            yield
        for path in plan.removed:
            if path.parent == PARTS:
                self.parts.pop(path.stem, None)
            else:
                self.shards.pop(shard_number(path.name), None)
            yield

    def packed(self, rules: PackRules, *, lists_changed: bool = False) -> PackPlan:
        plan = plan_pack(self.holdings(), rules, lists_changed=lists_changed)
        for _ in self.steps(plan):
            pass
        return plan


def actions(plan: PackPlan) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(file.action, file.number, file.video_ids) for file in plan.files]


def test_parts_that_fit_become_one_file_and_are_removed() -> None:
    disk = Disk(parts={"b": 3, "a": 4})
    plan = disk.packed(PackRules(shard_bytes=7))
    assert (plan.changed, plan.sharded) == (True, False)
    assert actions(plan) == [("rewritten", NO_SHARD, ("a", "b"))]
    assert plan.removed == (PARTS / "a.h5", PARTS / "b.h5")
    assert disk.single == {"a": 4, "b": 3}


def test_parts_beyond_a_shard_fill_shards_in_order_of_their_ids() -> None:
    plan = plan_pack(
        Disk(parts={"c": 5, "a": 4, "d": 9, "b": 3}).holdings(),
        PackRules(shard_bytes=8),
        lists_changed=False,
    )
    assert plan.sharded
    assert actions(plan) == [("packed", 0, ("a", "b")), ("packed", 1, ("c",)), ("packed", 2, ("d",))]
    assert plan.shards == {"a": 0, "b": 0, "c": 1, "d": 2}


def test_existing_shards_stay_when_videos_are_added() -> None:
    disk = Disk(master={"a": 0, "b": 1}, shards={0: {"a": 1}, 1: {"b": 1}}, next_shard=2, parts={"c": 1})
    plan = disk.packed(PackRules(shard_bytes=MANY))
    assert actions(plan) == [("packed", 2, ("c",)), ("kept", 0, ("a",)), ("kept", 1, ("b",))]
    assert plan.removed == (PARTS / "c.h5",)


def test_replaced_video_leaves_its_shard_which_is_written_anew_without_it() -> None:
    disk = Disk(master={"a": 0, "b": 0}, shards={0: {"a": 1, "b": 1}}, next_shard=1, parts={"b": 2})
    plan = disk.packed(PackRules(shard_bytes=1, replace={"b", "nowhere"}))
    assert actions(plan) == [("packed", 1, ("b",)), ("rewritten", 2, ("a",))]
    assert plan.removed == (PARTS / "b.h5", PARTS / "b.h5", shard(0))
    assert disk.held() == {"a": 1, "b": 2}


def test_repeated_part_that_nobody_asked_for_is_only_removed() -> None:
    disk = Disk(single={"a": 1}, parts={"a": 2})
    plan = disk.packed(PackRules(shard_bytes=MANY))
    assert (plan.changed, actions(plan), plan.removed) == (
        False,
        [("kept", NO_SHARD, ("a",))],
        (PARTS / "a.h5",),
    )
    assert disk.held() == {"a": 1}


def test_dropping_the_only_video_of_a_shard_writes_the_master_alone() -> None:
    disk = Disk(master={"a": 0, "b": 1}, shards={0: {"a": 1}, 1: {"b": 1}}, next_shard=2)
    plan = disk.packed(PackRules(shard_bytes=1, drop={"a"}))
    assert (plan.changed, actions(plan)) == (True, [("kept", 1, ("b",))])
    assert plan.removed == (shard(0),)


def test_dropping_everything_leaves_an_empty_store() -> None:
    one, many = Disk(single={"a": 1}), Disk(master={"a": 0}, shards={0: {"a": 1}}, next_shard=1)
    assert actions(one.packed(PackRules(shard_bytes=1, drop={"a"}))) == [("rewritten", NO_SHARD, ())]
    assert actions(many.packed(PackRules(shard_bytes=1, drop={"a"}))) == []
    assert (one.single, many.master, many.shards) == ({}, {}, {})


def test_single_file_that_outgrows_is_linked_after_the_parts() -> None:
    disk = Disk(single={"a": 4, "b": 4}, parts={"c": 4})
    plan = disk.packed(PackRules(shard_bytes=10))
    assert actions(plan) == [("packed", 0, ("c",)), ("linked", 1, ("a", "b"))]
    assert disk.master == {"c": 0, "a": 1, "b": 1}


def test_outgrowing_single_file_with_a_replaced_video_is_written_anew() -> None:
    disk = Disk(single={"a": 4, "b": 4}, parts={"b": 9})
    plan = disk.packed(PackRules(shard_bytes=10, replace={"b"}))
    assert actions(plan) == [("packed", 0, ("b",)), ("rewritten", 1, ("a",))]


def test_single_file_of_which_a_shard_took_a_video_is_written_anew() -> None:
    """After a kill between a shard and the master, the single file holds what a shard holds too."""
    disk = Disk(single={"a": 4, "b": 4}, shards={0: {"b": 9}})
    plan = disk.packed(PackRules(shard_bytes=10))
    assert actions(plan) == [("rewritten", 1, ("a",)), ("kept", 0, ("b",))]
    assert disk.held() == {"a": 4, "b": 9}


def test_shard_of_which_a_newer_one_took_a_video_is_written_anew() -> None:
    """A shard may be committed before the rest is planned, or before a kill."""
    disk = Disk(
        master={"a": 0, "b": 0, "c": 1},
        shards={0: {"a": 4, "b": 4}, 1: {"c": 4}, 2: {"b": 9}},
        next_shard=2,
    )
    plan = disk.packed(PackRules(shard_bytes=10))
    assert actions(plan) == [("rewritten", 3, ("a",)), ("kept", 1, ("c",)), ("kept", 2, ("b",))]
    assert plan.removed == (shard(0),)
    assert disk.shards == {1: {"c": 4}, 2: {"b": 9}, 3: {"a": 4}}


def test_shards_without_a_master_get_one() -> None:
    disk = Disk(shards={0: {"a": 1}, 4: {"a": 2}})
    plan = disk.packed(PackRules(shard_bytes=MANY))
    assert (plan.changed, plan.sharded, actions(plan)) == (True, True, [("kept", 4, ("a",))])
    assert plan.removed == (shard(0),)
    assert disk.next_shard == 5


def test_shard_newer_than_the_master_is_named_by_the_next() -> None:
    disk = Disk(master={"a": 0}, shards={0: {"a": 1}, 1: {"b": 2}}, next_shard=1)
    plan = disk.packed(PackRules(shard_bytes=MANY))
    assert (plan.changed, actions(plan)) == (True, [("kept", 0, ("a",)), ("kept", 1, ("b",))])
    assert (disk.master, disk.next_shard) == ({"a": 0, "b": 1}, 2)


def test_other_lists_alone_write_the_master_and_no_shard() -> None:
    disk = Disk(master={"a": 0}, shards={0: {"a": 1}}, next_shard=1)
    assert not disk.packed(PackRules(shard_bytes=MANY)).changed
    plan = disk.packed(PackRules(shard_bytes=MANY), lists_changed=True)
    assert (plan.changed, actions(plan)) == (True, [("kept", 0, ("a",))])


def test_leftovers_of_an_earlier_kill_are_removed_even_if_nothing_is_new() -> None:
    disk = Disk(master={"a": 1}, shards={0: {"a": 1, "b": 1}, 1: {"a": 2}}, next_shard=2)
    plan = disk.packed(PackRules(shard_bytes=MANY))
    assert (plan.changed, plan.removed) == (False, (shard(0),))


def test_nothing_at_all_becomes_an_empty_single_file() -> None:
    plan = plan_pack(Disk().holdings(), PackRules(shard_bytes=1), lists_changed=False)
    assert (plan.changed, plan.sharded, actions(plan)) == (True, False, [("rewritten", NO_SHARD, ())])


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 20), max_size=9), st.integers(1, 30))
def test_divided_keeps_order_and_exceeds_the_size_only_for_single_videos(
    sizes: dict[str, int], most: int
) -> None:
    groups = divided(sizes, most)
    assert [k for group in groups for k in group] == list(sizes)
    assert all(len(group) == 1 or sum(sizes[k] for k in group) <= most for group in groups)
    for group, following in itertools.pairwise(groups):
        assert sum(sizes[k] for k in group) + sizes[following[0]] > most


IDS = st.sampled_from("abcdefg")
SIZES = st.integers(1, 9)


@st.composite
def rules(draw: st.DrawFn) -> PackRules:
    return PackRules(
        shard_bytes=draw(st.sampled_from([1, 6, 12, MANY])),
        replace=draw(st.sets(IDS, max_size=3)),
        drop=draw(st.sets(IDS, max_size=2)),
    )


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    """Any disk that runs leave: some packings of some parts, the last one perhaps stopped."""
    disk = Disk()
    for _ in range(draw(st.integers(0, 3))):
        disk.parts |= draw(st.dictionaries(IDS, SIZES, max_size=4))
        plan = plan_pack(disk.holdings(), draw(rules()), lists_changed=False)
        steps = sum(1 for _ in copy.deepcopy(disk).steps(plan))
        stop = draw(st.integers(0, steps))
        for done, _ in enumerate(disk.steps(plan), start=1):
            if done >= stop:
                break
    disk.parts |= draw(st.dictionaries(IDS, SIZES, max_size=4))
    return disk


def expected(disk: Disk, asked: PackRules) -> dict[str, int]:
    """Return the versions that a packing must leave, read from the disk alone."""
    before = disk.held()
    before |= {k: disk.parts[k] for k in asked.replace if k in before and k in disk.parts}
    return {k: version for k, version in before.items() if k not in asked.drop}


@given(disks(), rules())
def test_every_video_is_in_exactly_one_file_and_none_is_lost(disk: Disk, asked: PackRules) -> None:
    wanted = expected(disk, asked)
    left_out = {k: disk.parts[k] for k in disk.holdings().parts if k in asked.drop}
    plan = plan_pack(disk.holdings(), asked, lists_changed=False)
    ids = [video_id for file in plan.files for video_id in file.video_ids]
    assert sorted(ids) == sorted(wanted)
    assert list(plan.paths) == sorted(ids)
    assert {k: disk.content(path)[k] for k, path in plan.paths.items()} == wanted
    for _ in disk.steps(plan):
        pass
    assert disk.held() == wanted | left_out
    assert disk.parts == left_out
    # No file has more than counts: what was replaced or dropped takes no room.
    files = [disk.single or {}, *disk.shards.values()]
    assert sorted(k for file in files for k in file) == sorted(wanted)


@given(disks(), rules())
def test_what_is_packed_respects_the_size(disk: Disk, asked: PackRules) -> None:
    held = disk.holdings()
    plan = plan_pack(held, asked, lists_changed=False)
    packed = [file for file in plan.files if file.action == "packed"]
    assert [file.number for file in packed] == [held.files.next_shard + k for k in range(len(packed))]
    for file in packed:
        assert len(file.sources) == 1 or sum(held.sizes[path] for path in file.sources) <= asked.shard_bytes
    if plan.changed and not plan.sharded and any(path.parent == PARTS for path in plan.paths.values()):
        assert sum(held.sizes[path] for path in set(plan.paths.values())) <= asked.shard_bytes


@given(disks(), rules())
def test_files_of_which_all_stays_are_not_written(disk: Disk, asked: PackRules) -> None:
    before = copy.deepcopy(disk)
    plan = disk.packed(asked)
    for file in plan.files:
        if plan.sharded and file.action == "rewritten":
            (source,) = file.sources
            assert set(file.video_ids) < set(before.content(source))
        elif file.action == "kept" and plan.sharded:
            assert disk.shards[file.number] == before.shards[file.number]


@given(disks(), rules())
def test_packing_again_changes_nothing(disk: Disk, asked: PackRules) -> None:
    disk.packed(asked)
    files = disk.holdings().files
    assert (files.exists, files.pending, files.leftover) == (True, (), ())
    again = plan_pack(disk.holdings(), asked, lists_changed=False)
    assert (again.changed, again.removed) == (False, ())
    assert all(file.action == "kept" for file in again.files)


@settings(max_examples=200)
@given(disks(), rules())
def test_a_kill_between_any_two_steps_loses_nothing(disk: Disk, asked: PackRules) -> None:
    """All that is to stay counts at each step, and packing again comes to the same end."""
    before, wanted = disk.held(), expected(disk, asked)
    plan = plan_pack(disk.holdings(), asked, lists_changed=False)
    for _ in disk.steps(plan):
        now = disk.held()
        assert all(now[k] in (before[k], wanted[k]) for k in wanted)
        resumed = copy.deepcopy(disk)
        resumed.packed(asked)
        after = resumed.held()
        assert {k: after[k] for k in after if k not in resumed.parts} == wanted


@pytest.mark.parametrize("number", [NO_SHARD, 3])
def test_video_ids_of_a_planned_file_are_sorted(number: int) -> None:
    file = PlannedFile(action="packed", number=number, sources={Path("y"): ["c", "a"], Path("x"): ["b"]})
    assert file.video_ids == ("a", "b", "c")
