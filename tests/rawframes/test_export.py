from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import flowkit
from flowkit.errors import StoreBusyError
from flowkit.executor import LocalExecutor
from flowkit.jobs import Progress
from flowkit.rawframes import export, export_worker
from flowkit.rawframes.destination import Destination
from flowkit.rawframes.export_plan import ExportConfig, prepare
from flowkit.rawframes.export_worker import ExportOutcome, Unit, write_unit
from tests.rawframes.conftest import MakeStore, contents, make_options, names_in, run_export, write_clip


def test_a_clip_of_n_frames_becomes_n_images_and_one_flow_pair_less(
    make_store: MakeStore, tmp_path: Path
) -> None:
    report = run_export(make_store({"walk/a": 4}), tmp_path / "out")
    assert not report.failures
    assert names_in(tmp_path / "out" / "walk" / "a") == [
        *(f"flow_x_{k:05d}.jpg" for k in (1, 2, 3)),
        *(f"flow_y_{k:05d}.jpg" for k in (1, 2, 3)),
        *(f"img_{k:05d}.jpg" for k in (1, 2, 3, 4)),
    ]


def test_a_repeated_export_writes_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    store, dest = make_store({"walk/a": 3, "walk/b": 3}), tmp_path / "out"
    run_export(store, dest)
    before = {path: path.stat().st_mtime_ns for path in dest.rglob("*.jpg")}
    report = run_export(store, dest)
    assert [outcome.status for outcome in report.outcomes] == ["already_exported"] * 2
    assert {path: path.stat().st_mtime_ns for path in dest.rglob("*.jpg")} == before


def test_clips_added_to_a_store_are_added_to_its_export(make_store: MakeStore, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    run_export(make_store({"walk/a": 3}), dest)
    report = run_export(make_store({"walk/a": 3, "run/b": 3}), dest)
    assert [outcome.status for outcome in report.outcomes] == ["already_exported", "exported"]
    # A new class moves the numbers of the others, in the lists only.
    assert (dest / "annotations/all/rgb_all.txt").read_text().splitlines()[-1].endswith("walk/a 3 1")


@pytest.mark.parametrize("damage", ["gone", "short", "folder_gone"])
def test_a_damaged_folder_is_written_again(make_store: MakeStore, tmp_path: Path, damage: str) -> None:
    store, dest = make_store({"walk/a": 3}), tmp_path / "out"
    run_export(store, dest)
    whole = contents(dest)
    victim = dest / "walk/a/img_00002.jpg"
    if damage == "gone":
        victim.unlink()
    elif damage == "short":
        victim.write_bytes(victim.read_bytes()[:-10])
    else:
        shutil.rmtree(victim.parent)
    assert [outcome.status for outcome in run_export(store, dest).outcomes] == ["exported"]
    assert contents(dest) == whole


def test_a_folder_that_is_not_ours_is_left_alone(make_store: MakeStore, tmp_path: Path) -> None:
    store, dest = make_store({"walk/a": 3, "walk/b": 3}), tmp_path / "out"
    (dest / "walk/a").mkdir(parents=True)
    (dest / "walk/a/mine.txt").write_text("mine")
    report = run_export(store, dest)
    assert [(failure.name, failure.reason) for failure in report.failures] == [("walk/a", "refused")]
    assert names_in(dest / "walk/a") == ["mine.txt"]
    assert (dest / "walk/b/img_00001.jpg").exists()


@pytest.mark.parametrize("name", [".flowkit-export/done/x", "annotations/all"])
def test_ids_in_the_exports_own_folders_are_refused(make_store: MakeStore, tmp_path: Path, name: str) -> None:
    report = run_export(make_store({name: 3, "a": 3}), tmp_path / "out")
    assert [failure.name for failure in report.failures] == [name]
    assert (tmp_path / "out/a/img_00001.jpg").exists()


def test_an_id_too_long_for_the_file_system_fails_alone(make_store: MakeStore, tmp_path: Path) -> None:
    long = "x" * 300
    report = run_export(make_store({long: 3, "a": 3}), tmp_path / "out")
    assert [(failure.name, failure.reason) for failure in report.failures] == [(long, "write_error")]
    assert (tmp_path / "out/a/img_00001.jpg").exists()


def test_two_exports_do_not_fill_one_folder_at_once(make_store: MakeStore, tmp_path: Path) -> None:
    store, dest = make_store({"a": 3}), tmp_path / "out"
    with Destination(dest).lock(), pytest.raises(StoreBusyError):
        run_export(store, dest)


def test_a_damaged_clip_costs_only_itself(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3, "b": 3})
    with flowkit.open(store) as opened:
        chunk = opened.stored_video("a").frames[1]
    data = store.read_bytes()
    at = data.index(chunk)
    store.write_bytes(data[: at + 30] + bytes([data[at + 30] ^ 1]) + data[at + 31 :])
    report = run_export(store, tmp_path / "out")
    assert [(failure.name, failure.reason) for failure in report.failures] == [("a", "store_error")]
    assert not (tmp_path / "out/a").exists()
    assert (tmp_path / "out/b/img_00003.jpg").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ZeroDivisionError("a fault of ours"), "internal_error"), (MemoryError(), "out_of_memory")],
)
def test_a_fault_that_one_clip_brings_to_light_costs_only_that(
    make_store: MakeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    def faulty(unit: export_worker.Unit, *args: object, **options: object) -> None:
        if unit.name == "b":
            raise error
        real(unit, *args, **options)  # type: ignore[arg-type]

    store, real = make_store({"a": 3, "b": 3, "c": 3}), export_worker._write_folder
    with monkeypatch.context() as patch:
        patch.setattr(export_worker, "_write_folder", faulty)
        report = run_export(store, tmp_path / "out")
    (failure,) = report.failures
    assert (failure.name, failure.reason) == ("b", reason)
    assert str(error) in failure.detail
    assert sorted(path.name for path in (tmp_path / "out").glob("[abc]")) == ["a", "c"]
    assert (tmp_path / "out/annotations/all/rgb_all.txt").exists()
    assert [outcome.status for outcome in run_export(store, tmp_path / "out").outcomes].count("exported") == 1


class _DyingOnce:
    """Writes units, but dies at the first."""

    def __call__(self, unit: Unit, worker: object) -> ExportOutcome:
        if unit.name == "a":
            os._exit(9)
        return write_unit(unit, worker)  # type: ignore[arg-type]


def test_workers_share_the_clips_and_a_dead_one_is_named(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store({"a": 3, "b": 3, "c": 3})
    monkeypatch.setattr(export, "write_unit", _DyingOnce())
    setup = prepare(store, tmp_path / "out", ExportConfig(layout="tsn"))
    seen: list[Progress[ExportOutcome]] = []
    with LocalExecutor(2) as executor:
        report = export.run(setup, executor=executor, on_progress=seen.append)
    assert [(failure.name, failure.reason) for failure in report.failures] == [("a", "worker_died")]
    assert sorted(outcome.name for outcome in report.outcomes) == ["a", "b", "c"]
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (3, 3, 1)


def test_a_full_disk_ends_the_run_and_says_what_was_not_tried(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = make_store({"a": 3, "b": 3, "c": 3})
    monkeypatch.setattr(export_worker, "_write_file", full)
    report = run_export(store, tmp_path / "out")
    assert [failure.reason for failure in report.failures] == ["no_space"]
    assert report.not_tried == 2
    assert not list((tmp_path / "out").glob("[abc]"))


def test_step_3_flow_counts_three_less_than_frames(make_store: MakeStore, tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    options = make_options(step=3)
    write_clip(store, "a", options, n_frames=7, seed=0)
    from flowkit.store.write.pack import finalize

    finalize(store, options=options)
    run_export(store, tmp_path / "out", "denseflow")
    flows = [name for name in names_in(tmp_path / "out/a") if name.startswith("flow_x")]
    assert flows == [f"flow_x_p3_{k:05d}.jpg" for k in range(4)]


class _Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


def _die_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Kill this process's export at its `call`-th rename, and let it sweep nothing behind itself."""
    real, calls = os.rename, 0

    def rename(*paths: str | Path) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise _Killed
        real(*paths)

    monkeypatch.setattr("flowkit.atomic.os.rename", rename)
    monkeypatch.setattr("flowkit.rawframes.destination.shutil.rmtree", lambda *_, **__: None)


# Renames of a run over a changed clip: options, the old folder away, marker, new folder; then the
# same for a new clip but for the old folder; then the lists.
@pytest.mark.parametrize("call", range(1, 10))
def test_a_kill_at_any_rename_leaves_what_the_next_run_completes(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    dest = tmp_path / "out"
    run_export(make_store({"a": 4}), dest)
    (tmp_path / "out.h5").unlink()
    store = make_store({"a": 3, "b": 3})
    with monkeypatch.context() as patches:
        _die_at(patches, call)
        with pytest.raises(_Killed):
            run_export(store, dest)
    assert not run_export(store, dest).failures
    run_export(store, tmp_path / "fresh", list_prefix=str(dest))
    assert contents(dest) == contents(tmp_path / "fresh")
