"""The choices of an export, against the store and what is there; the folders that it fills and completes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import flowkit
from flowkit import jpeg
from flowkit.errors import InvalidParameterError, StoreBusyError, StoreOptionsError
from flowkit.executor import LocalExecutor
from flowkit.jobs import Progress
from flowkit.quantize import quantize_u8
from flowkit.rawframes import export, export_worker
from flowkit.rawframes.destination import Destination
from flowkit.rawframes.export import ExportConfig, prepare
from flowkit.rawframes.export_worker import ExportOutcome, Unit, write_unit
from flowkit.store.schema import FieldOptions
from tests.rawframes.conftest import MakeStore, contents, make_options, names_in, run_export, write_clip


def write_split(store: Path, text: str) -> None:
    folder = store.with_name(f"{store.name}.splits")
    folder.mkdir(exist_ok=True)
    (folder / "one.csv").write_text(text)


def test_a_store_without_frames_exports_its_flow_when_asked(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3}, frame_codec="none")
    with pytest.raises(InvalidParameterError, match="--content flow"):
        run_export(store, tmp_path / "out")
    run_export(store, tmp_path / "out", content="flow")
    assert names_in(tmp_path / "out/a")[0] == "flow_x_00001.jpg"


def test_a_jpeg_store_keeps_its_own_bound(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3}, flow_codec="jpeg", bound_px=15.0)
    with pytest.raises(InvalidParameterError, match="bound 15 px"):
        run_export(store, tmp_path / "out", bound_px=20.0)
    assert not run_export(store, tmp_path / "out").failures


def test_backward_flow_gets_denseflows_names(make_store: MakeStore, tmp_path: Path) -> None:
    fields = tuple(
        FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in ("flow", "flow_backward")
    )
    store = make_store({"a": 3}, fields=fields)
    run_export(store, tmp_path / "out", "denseflow", field="flow_backward", content="flow")
    assert names_in(tmp_path / "out/a")[:2] == ["flow_x_m1_00001.jpg", "flow_x_m1_00002.jpg"]
    with flowkit.open(store) as opened:
        codes, _ = quantize_u8(opened["a"].flow(0, 1, field="flow_backward")[0], bound_px=20)
    assert (tmp_path / "out/a/flow_x_m1_00001.jpg").read_bytes() == jpeg.encode_grey(codes[0], 95)


def test_other_options_on_an_exported_folder_are_refused_by_name(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, dest = make_store({"a": 3}), tmp_path / "out"
    run_export(store, dest)
    with pytest.raises(StoreOptionsError, match=r"bound: there 20\.0, asked 15\.0"):
        run_export(store, dest, bound_px=15.0)


def test_a_store_of_other_flow_is_not_mixed_into_an_export(make_store: MakeStore, tmp_path: Path) -> None:
    run_export(make_store({"a": 3}), tmp_path / "out")
    fields = (FieldOptions(tvl1_preset="accurate", tvl1_params="{}"),)
    other = make_store({"a": 3}, name="other.h5", fields=fields)
    with pytest.raises(StoreOptionsError, match="accurate"):
        run_export(other, tmp_path / "out")


def test_options_are_noted_for_a_reader(make_store: MakeStore, tmp_path: Path) -> None:
    run_export(make_store({"a": 3}), tmp_path / "out", "mmaction2")
    noted = json.loads((tmp_path / "out/.flowkit-export/options.json").read_text())
    assert noted["layout"] == "mmaction2"
    assert noted["bound"] == 20
    assert noted["templates"]["x"] == "x_%05d.jpg"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"bound_px": 0.0}, "bound"),
        ({"content": "all"}, r"Invalid content \('all'\)\. Supported values are both, frames, flow"),
        ({"quality": 0}, r"quality must be in \[1, 100\], got 0"),
        ({"quality": 101}, r"quality must be in \[1, 100\], got 101"),
        ({"clips_per_shard": 0}, "clips_per_shard must be >= 1, got 0"),
        ({"jobs": 0}, "jobs must be >= 1, got 0"),
        ({"split": "one"}, "split must be left out but for webdataset, got 'one'"),
    ],
)
def test_impossible_choices_are_refused_with_the_value(choices: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ExportConfig(**choices)  # type: ignore[arg-type]


def test_preparing_writes_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"walk/a": 3})
    setup = prepare(store, tmp_path / "out", ExportConfig())
    assert [unit.name for unit in setup.todo] == ["walk/a"]
    assert (setup.there, setup.refused) == ((), ())
    assert names_in(tmp_path) == ["out.h5"]


def test_each_clip_is_a_unit_with_the_number_of_its_class(make_store: MakeStore, tmp_path: Path) -> None:
    setup = prepare(make_store({"walk/a": 3, "run/b": 4, "c": 2}), tmp_path / "out", ExportConfig())
    assert setup.classes == ("run", "walk")
    members = {unit.name: unit.members for unit in setup.todo}
    assert {name: list(clips) for name, clips in members.items()} == {
        "c": ["c"],
        "run/b": ["run/b"],
        "walk/a": ["walk/a"],
    }
    assert {name: clips[name].label for name, clips in members.items()} == {
        "c": None,
        "run/b": 0,
        "walk/a": 1,
    }


def test_units_are_to_do_there_or_refused(make_store: MakeStore, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    run_export(make_store({"a": 3, "b": 3}), dest)
    (dest / "b/img_00001.jpg").unlink()
    (dest / "walk").symlink_to(tmp_path)
    store = make_store({"a": 3, "b": 3, "walk/c": 3, "d": 3})
    before = (dest / ".flowkit-export/done").stat().st_mtime_ns
    setup = prepare(store, dest, ExportConfig())
    assert [unit.name for unit in setup.todo] == ["b", "d"]
    (there,) = setup.there
    assert (there.name, there.status) == ("a", "already_exported")
    assert (there.n_frames, there.n_flow, there.files) == (3, 2, 3 + 2 * 2)
    (refused,) = setup.refused
    assert (refused.name, refused.status, refused.reason) == ("walk/c", "failed", "refused")
    assert "symbolic link" in refused.detail
    assert (dest / ".flowkit-export/done").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("codec", "bound_px", "expected"), [("i8", None, 20.0), ("i8", 15.0, 15.0), ("jpeg", None, 32.0)]
)
def test_the_bound_is_the_one_asked_for_or_the_stores_own(
    make_store: MakeStore, tmp_path: Path, codec: str, bound_px: float | None, expected: float
) -> None:
    store = make_store({"a": 3}, flow_codec=codec, bound_px=32.0)
    setup = prepare(store, tmp_path / "out", ExportConfig(bound_px=bound_px))
    assert (setup.recipe.bound_px, setup.options["bound"]) == (expected, expected)


@pytest.mark.parametrize(
    ("content", "frames", "flow"), [("both", True, True), ("frames", True, False), ("flow", False, True)]
)
def test_the_content_decides_the_files(
    make_store: MakeStore, tmp_path: Path, content: str, frames: bool, flow: bool
) -> None:
    config = ExportConfig(content=content)  # type: ignore[arg-type]
    recipe = prepare(make_store({"a": 3}), tmp_path / "out", config).recipe
    assert (recipe.frames, recipe.flow) == (frames, flow)


def test_a_field_that_the_store_lacks_is_refused_and_the_known_named(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({"a": 3})
    with pytest.raises(InvalidParameterError) as caught:
        prepare(store, tmp_path / "out", ExportConfig(field="flow_backward"))
    assert str(caught.value) == f"Invalid field ('flow_backward'). Supported values in {store} are flow"


def test_clips_of_a_shard_are_those_of_its_subset_that_the_store_has(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({name: 2 for name in "abcde"})
    write_split(store, "id,subset\na,train\nb,test\nc,train\nd,train\ngone,test\n")
    config = ExportConfig(layout="webdataset", split="one", clips_per_shard=2)
    setup = prepare(store, tmp_path / "out", config)
    shards = {unit.name: set(unit.members) for unit in setup.todo}
    assert list(map(len, shards.values())) == [2, 1, 1]
    assert shards["train-000000.tar"] | shards["train-000001.tar"] == {"a", "c", "d"}
    assert shards["test-000000.tar"] == {"b"}


def test_the_division_into_shards_is_an_option_of_shards_only(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 2})
    folders = [
        prepare(store, tmp_path / "out", ExportConfig(clips_per_shard=clips)).options for clips in (1, 2)
    ]
    assert folders[0] == folders[1]
    shards = prepare(store, tmp_path / "out", ExportConfig(layout="webdataset", clips_per_shard=7)).options
    assert (shards["clips_per_shard"], shards["split"]) == (7, None)


def test_other_choices_for_the_same_folder_are_refused_before_any_work(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({"a": 3})
    run_export(store, tmp_path / "out")
    with pytest.raises(StoreOptionsError, match="quality: there 95, asked 80; repeat its options"):
        prepare(store, tmp_path / "out", ExportConfig(quality=80))
    assert prepare(store, tmp_path / "out", ExportConfig(jobs=3, list_prefix="x")).todo == ()


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
    """A kill as it looks from inside: nothing catches it."""


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
