from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import pytest

from flowkit import atomic
from flowkit.errors import InputError, StoreBusyError
from flowkit.extraction.plan import Plan
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import OnOutcome, StoreSetup, VideoOutcome, failed_video, fill_store
from flowkit.store import index
from flowkit.store.inventory import inventory, shard_files
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.store import open_store
from flowkit.store.record import Failure
from tests.rawframes.conftest import make_options, write_clip


def source(name: str) -> VideoSource:
    return VideoSource(path=Path(f"{name}.avi"), video_id=name)


def planned(store: Path, *todo: str, changed: tuple[str, ...] = ()) -> StoreSetup:
    plan = Plan(
        todo=tuple(map(source, todo)),
        stored=(),
        changed=tuple(map(source, changed)),
        replaced=frozenset(),
    )
    return StoreSetup(store=store, options=make_options(), plan=plan, found=inventory(store))


def fill(
    setup: StoreSetup, *outcomes: VideoOutcome, known: tuple[Failure, ...] = ()
) -> tuple[VideoOutcome, ...]:
    return fill_store(
        setup,
        lambda *_: outcomes,
        command="extract",
        changed="it has changed",
        shard_bytes=1 << 30,
        known=known,
    )


def ledger(store: Path) -> dict[str, str]:
    return {failure.source: failure.reason for failure in inventory(store).failures}


def failed(name: str, reason: str = "decode_error") -> VideoOutcome:
    return failed_video(source(name), reason, "a detail")


def stored(store: Path, name: str) -> VideoOutcome:
    write_clip(store, name, make_options(), n_frames=2, seed=0)
    return VideoOutcome(video_id=name, source=f"{name}.avi", status="stored")


def test_committed_parts_are_packed_and_failures_stand_in_the_ledger(store: Path) -> None:
    setup = planned(store, "a", "b")
    outcomes = fill(setup, stored(store, "a"), failed("b"))
    assert [outcome.status for outcome in outcomes] == ["stored", "failed"]
    assert list(inventory(store).records) == ["a"]
    assert ledger(store) == {"b.avi": "decode_error"}
    assert not PartsFolder(store).path.exists()


def test_earlier_failures_stay_until_their_source_is_tried_again(store: Path) -> None:
    fill(planned(store, "a", "b", "c"), stored(store, "a"), failed("b"), failed("c"))
    fill(planned(store, "c"), failed("c", "too_short"))
    assert ledger(store) == {"b.avi": "decode_error", "c.avi": "too_short"}
    fill(planned(store, "b"), stored(store, "b"))
    assert ledger(store) == {"c.avi": "too_short"}


def test_a_changed_source_is_an_outcome_and_no_line_of_the_ledger(store: Path) -> None:
    fill(planned(store, "a"), stored(store, "a"))
    (outcome,) = fill(planned(store, changed=("a",)))
    assert (outcome.video_id, outcome.reason) == ("a", "source_changed")
    assert outcome.failure is not None
    assert outcome.failure.detail == "it has changed"
    assert ledger(store) == {}


def test_failures_from_before_the_run_take_the_place_of_their_earlier_lines(store: Path) -> None:
    known = (Failure(source="empty", reason="empty_folder", detail="the folder is empty"),)
    fill(planned(store, "a"), stored(store, "a"), known=known)
    fill(planned(store, "b"), failed("b"), known=known)
    assert ledger(store) == {"empty": "empty_folder", "b.avi": "decode_error"}
    assert len(inventory(store).failures) == 2


def test_work_that_ends_early_leaves_its_parts_and_no_temporaries(store: Path) -> None:
    parts = PartsFolder(store)

    def interrupted(*_: object) -> list[VideoOutcome]:
        stored(store, "a")
        # As an ended worker leaves it: nobody in this process writes it.
        atomic.temporary_path(parts.part_path("b")).write_bytes(b"half a part")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_store(planned(store, "a", "b"), interrupted, command="extract", changed="", shard_bytes=1 << 30)
    assert sorted(path.name for path in parts.path.iterdir()) == ["a.h5", "lock", "run.json"]
    assert not store.exists()


@pytest.mark.parametrize("held_as", ["store", "part"])
def test_an_id_below_one_that_is_there_is_refused_before_the_work(store: Path, held_as: str) -> None:
    """A full shard with it would be committed before the end, and no later run could name it."""
    done = stored(store, "a")
    if held_as == "store":
        fill(planned(store, "a"), done)
    setup = planned(store, "a/x", "b")
    tried: list[str] = []

    def work(on_outcome: OnOutcome, _: object) -> list[VideoOutcome]:
        for name in ("a/x", "b"):
            tried.append(name)
            on_outcome(stored(store, name))
        return []

    with pytest.raises(InputError, match=r"the id 'a' of .* is a folder of the id 'a/x' of a/x\.avi"):
        fill_store(setup, work, command="extract", changed="", shard_bytes=1)
    assert not tried
    assert not shard_files(store)
    fill(planned(store, "b"), stored(store, "b"))
    assert set(inventory(store).records) == {"a", "b"}


def shard_labels(store: Path) -> list[tuple[str, ...]]:
    found = []
    for path in sorted(shard_files(store)):
        with h5py.File(path) as file:
            found.append(index.read_labels(file))
    return found


def labelled(store: Path, *names: str, shard_bytes: int = 1, given: tuple[str, ...] | None = None) -> None:
    """Fill a store with clips whose class is their folder; those called `bad` fail."""
    plan = Plan(
        todo=tuple(dataclasses.replace(source(name), label=name.partition("/")[0]) for name in names),
        stored=(),
        changed=(),
        replaced=frozenset(),
    )
    setup = StoreSetup(store=store, options=make_options(), plan=plan, found=inventory(store))

    def work(on_outcome: OnOutcome, _: object) -> list[VideoOutcome]:
        outcomes = []
        for name in names:
            outcomes.append(failed(name) if name.endswith("bad") else stored(store, name))
            on_outcome(outcomes[-1])
        if names[-1].endswith("killed"):
            raise KeyboardInterrupt
        return outcomes

    fill_store(setup, work, command="extract", changed="", shard_bytes=shard_bytes, labels=given)


def test_every_shard_of_a_run_has_the_class_names_of_the_store(store: Path) -> None:
    names = ("z/1", "x/2", "y/bad", "w/3")
    labelled(store, *names)
    with open_store(store) as opened:
        assert opened.labels == ("w", "x", "y", "z")
    assert shard_labels(store) == [("w", "x", "y", "z")] * 3


def test_class_names_that_were_given_are_those_of_every_shard(store: Path) -> None:
    labelled(store, "z/1", "x/2", given=("z", "y", "x"))
    labelled(store, "w/3", "v/4")
    with open_store(store) as opened:
        assert opened.labels == ("z", "y", "x", "v", "w")
    assert shard_labels(store) == [("z", "y", "x")] * 2 + [("z", "y", "x", "v", "w")] * 2


def test_a_run_that_goes_on_after_a_kill_keeps_the_class_names_of_its_shards(store: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        labelled(store, "z/1", "x/2", "y/bad", "w/killed")
    assert not store.exists()
    labelled(store, "y/bad", shard_bytes=1 << 30)
    with open_store(store) as opened:
        assert opened.labels == ("w", "x", "y", "z")
    assert set(shard_labels(store)) == {("w", "x", "y", "z")}


def test_without_full_shards_failed_videos_have_no_class(store: Path) -> None:
    labelled(store, "z/1", "y/bad", shard_bytes=1 << 30)
    assert inventory(store).labels == ("z",)


def test_a_store_that_another_run_fills_is_refused(store: Path) -> None:
    with PartsFolder(store).lock(), pytest.raises(StoreBusyError):
        fill(planned(store, "a"), failed("a"))
