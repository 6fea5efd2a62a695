"""Damaged stores: a sample of benchmarks/store_mutations.py, its generator, and what its judge reports."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import shutil
import threading
from pathlib import Path

import h5py
import pytest

import flowkit
from benchmarks import store_mutation_judge as judge
from benchmarks import store_mutation_worker as worker
from benchmarks import store_mutations as campaign
from benchmarks.record import JsonObject
from benchmarks.store_mutation_commands import COMMANDS, Trial
from benchmarks.store_values import changed, lost, plain_values, reader_values
from flowkit import VerifyReport
from tests.make import store_mutations
from tests.make.store_bases import STORE, STORED, Base, make_bases

COMMANDS_TRIED = (
    "verify",
    "reader",
    "reader-h5py",
    "reader-file",
    "plain-h5py",
    "repair",
    "after-repair",
    "merge",
)
PLAIN = judge.PLAIN
SAMPLE, SAMPLE_SEED = (5, 41), 0  # of one base, on which everything runs before
MUTANT = store_mutations.Mutant(
    seed=0, number=0, kind="bit", base="i8-single", file=STORE, detail="by hand", data=b""
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Base]:
    return make_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def trial(bases: list[Base], tmp_path: Path) -> Trial:
    """A copy of the single i8 store, to damage by hand."""
    shutil.copytree(bases[0].folder, tmp_path / "store")
    (tmp_path / "written").mkdir()
    return Trial(base=bases[0], store=tmp_path / "store" / STORE, work=tmp_path / "written")


@functools.cache
def sound_of(store: Path) -> judge.Sound:
    """The values of an undamaged store."""
    readers = ("reader", "reader-h5py", "reader-file")
    return judge.Sound(values=reader_values(store), plain=plain_values(store), readers=readers)


def judged(trial: Trial) -> JsonObject:
    """Run some commands in this process; what was not run has been left out."""
    tried = {name: worker.run_command(trial, name) for name in COMMANDS_TRIED}
    results = [tried.get(name, {"name": name, "outcome": "left out", "seconds": 0.0}) for name in COMMANDS]
    return judge.judge(MUTANT, trial.base, sound_of(trial.base.store), results)


def faults_of(verdict: JsonObject) -> set[tuple[str, str]]:
    return {(fault["command"], fault["fault"]) for fault in verdict["faults"]}


@pytest.mark.slow
def test_no_command_fails_on_a_damaged_store_or_takes_a_changed_value_for_sound() -> None:
    verdicts = list(campaign.run_numbers(SAMPLE, seed=SAMPLE_SEED, jobs=1))
    found = campaign.summary(verdicts)
    assert found["faults"] == []
    assert [verdict["number"] for verdict in verdicts] == list(SAMPLE)
    assert found["outcomes"].keys() == COMMANDS.keys()
    assert all("left out" not in counts for counts in found["outcomes"].values())
    assert any(verdict["verdict"] != "sound" for verdict in verdicts)


def test_damage_depends_on_the_seed_and_the_number_alone(bases: list[Base]) -> None:
    numbers = [*range(0, 200, 3), *range(store_mutations.FIRST_TARGETED, store_mutations.FIRST_TARGETED + 30)]
    first = [store_mutations.mutant(bases, 3, number) for number in numbers]
    assert first == [store_mutations.mutant(bases, 3, number) for number in numbers]
    assert all(one != store_mutations.mutant(bases, 4, one.number) for one in first)
    named = {base.name: base for base in bases}
    assert all(one.data != named[one.base].files[one.file] for one in first)
    assert {one.kind for one in first} == {*store_mutations.KINDS, *store_mutations.TARGETS}
    assert {one.base for one in first} == named.keys()


def test_targeted_damage_is_one_bit_of_a_text_or_a_table(bases: list[Base]) -> None:
    for number in range(store_mutations.FIRST_TARGETED, store_mutations.FIRST_TARGETED + 60):
        made = store_mutations.mutant(bases, 0, number)
        sound = next(base for base in bases if base.name == made.base).files[made.file]
        flipped = [k for k, (one, two) in enumerate(zip(sound, made.data, strict=True)) if one != two]
        assert len(flipped) == 1
        ranges = store_mutations.places(sound).targets[made.kind]
        assert any(start <= flipped[0] < stop for start, stop in ranges)


def test_each_base_has_every_target_and_some_text_that_is_not_ascii(bases: list[Base]) -> None:
    for base in bases:
        found = [store_mutations.places(data).targets.keys() for data in base.files.values()]
        assert set().union(*found) == set(store_mutations.TARGETS), base.name
        assert all("дом".encode() in data for name, data in base.files.items() if name == STORE), base.name
        assert len(base.videos) == (1 if base.name.endswith("single") else len(base.files) - 1)
    assert all(len(base.videos) > 1 for base in bases if base.name.endswith("sharded"))


def test_an_undamaged_store_is_sound_and_without_faults(trial: Trial) -> None:
    verdict = judged(trial)
    assert (verdict["verdict"], verdict["faults"], verdict["changed"]) == ("sound", [], {})


def test_a_changed_value_that_verify_passes_is_a_silent_fault(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(trial.store, "r+") as file:
        file[f"videos/{STORED}/pts"][1] += 1.0  # HDF5 writes its checksum with it
        file.attrs["flowkit_version"] = "0.0.0"
    report = VerifyReport(n_videos=4, n_frames=31, n_flow=54, n_checked=4, n_decoded=4, videos={}, store=())
    monkeypatch.setattr("flowkit.store.tools.verify.verify", lambda path, **_: report)
    monkeypatch.setattr(flowkit, "verify", lambda path, **_: report)
    verdict = judged(trial)
    assert verdict["verdict"] == "sound"
    assert {("plain-h5py", "silent"), ("reader-h5py", "silent")} <= faults_of(verdict)
    text = " ".join(fault["text"] for fault in verdict["faults"] if fault["fault"] == "silent")
    assert f"video/{STORED}:pts" in text
    assert "/@flowkit_version" in text


def test_a_changed_value_in_a_store_that_is_not_sound_is_counted_and_no_fault(bases: list[Base]) -> None:
    sound = sound_of(bases[0].store)
    differing = {**sound.values, f"video/{STORED}:pts": "other"}
    verdict = judge_of(bases[0], {"verify": {"sound": False}, "reader": {"values": differing}})
    assert (verdict["faults"], verdict["changed"]) == ([], {"reader": ["pts"]})
    verdict = judge_of(bases[0], {"verify": {"sound": True}, "reader": {"values": differing}})
    assert ("reader", "silent") in faults_of(verdict)


def test_each_failure_of_a_command_or_a_repair_is_a_fault(bases: list[Base]) -> None:
    sound = sound_of(bases[0].store)
    differing = {**sound.values, f"video/{STORED}:flow[1]": "other"}
    repaired = {"repaired": True, "vanished": []}
    cases: list[tuple[dict[str, JsonObject], set[tuple[str, str]]]] = [
        ({"info": {"outcome": "hang"}, PLAIN: {"outcome": "crash"}}, {("info", "hang")}),
        ({"verify": {"sound": True}, PLAIN: {"outcome": "crash"}}, {(PLAIN, "crash")}),
        ({"merge": {"copy_sound": True, "changed_in_copy": ["video/a:flow[1]"]}}, {("merge", "laundered")}),
        ({"repair": repaired, "after-repair": {"sound": True, "values": differing}}, {("repair", "kept")}),
        ({"repair": repaired, "after-repair": {"sound": False}}, {("repair", "unsound after repair")}),
        (
            {
                "repair": {**repaired, "vanished": [STORE]},
                "after-repair": {"sound": True, "values": {"options": sound.values["options"]}},
            },
            {("repair", "vanished")},
        ),
    ]
    for results, expected in cases:
        assert (
            expected
            <= faults_of(judge_of(bases[0], results))
            <= expected | {(name, "silent") for name in COMMANDS}
        )


def judge_of(base: Base, results: dict[str, JsonObject]) -> JsonObject:
    """Judge results made by hand; every other command was left out, and verify found the store unsound."""
    default: JsonObject = {"outcome": "left out", "seconds": 0.0}
    given = {"verify": {"sound": False}, **results}
    named = {name: {"outcome": "ended", "seconds": 0.0, **result} for name, result in given.items()}
    all_results = [{"name": name, **named.get(name, default)} for name in COMMANDS]
    return judge.judge(MUTANT, base, sound_of(base.store), all_results)


def test_values_are_those_of_every_field_frame_time_and_attribute(trial: Trial) -> None:
    sound = sound_of(trial.base.store)
    assert reader_values(trial.store, access="h5py") == sound.values
    with trial.store.open("rb") as file:
        assert reader_values(file) == sound.values
    with flowkit.open(trial.store) as store:
        items = sum(1 + len(clip.fields) * clip.n_flow + clip.n_frames for clip in store.values())
    assert sum("[" in name or name.endswith(":pts") for name in sound.values) == items
    with h5py.File(trial.store, "r+") as file:
        file["labels"][...] = file["labels"][:][::-1]
        del file[f"videos/{STORED}"].attrs["fps"]
    plain = plain_values(trial.store)
    assert changed(sound.plain, plain) == ["/labels"]
    assert lost(sound.plain, plain) == [f"/videos/{STORED}@fps"]


def test_a_child_that_dies_hangs_or_raises_is_recorded_and_the_next_commands_run(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(_: Trial) -> JsonObject:
        return {"size": len(b"x" * (60 << 20))}

    def burst(_: Trial) -> bool:
        kept = b"x" * (200 << 20)
        return threading.Event().wait(len(kept))

    made = {
        "dies": lambda _: ctypes.string_at(0),
        "raises": lambda _: dict[str, int]()["no such key"],
        "waits": lambda _: threading.Event().wait(),
        "spins": lambda _: all(itertools.count(1)),
        "exits": lambda _: os._exit(3),
        "grows": grow,
        "bursts": burst,
        "ends": lambda _: {"status": 0},
    }
    monkeypatch.setattr(worker, "COMMANDS", made)
    monkeypatch.setattr(worker, "DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(worker, "MEMORY_BOUND_BYTES", 40 << 20)
    monkeypatch.setattr(worker, "_WAIT_SECONDS", 2.0)
    monkeypatch.setattr(worker, "_MOST_LOST", 6)
    results = worker.try_trial(trial)
    outcomes = [(result["name"], result["outcome"]) for result in results]
    assert outcomes == [
        ("dies", "crash"),
        ("raises", "traceback"),
        ("waits", "hang"),
        ("spins", "hang"),
        ("exits", "crash"),
        ("grows", "memory"),
        ("bursts", "memory"),
        ("ends", "ended"),
    ]
    texts = {result["name"]: result.get("text", "") for result in results}
    assert "-11" in texts["dies"]
    assert "KeyError" in texts["raises"]
    assert "test_store_mutations.py" in texts["waits"]
    assert "test_store_mutations.py" in texts["spins"]
