from __future__ import annotations

from pathlib import Path

import pytest

import flowkit
from flowkit.errors import InputError, InvalidParameterError
from flowkit.rawframes.layouts import LAYOUTS
from flowkit.rawframes.steps import find_steps, one_step, with_backward
from flowkit.store.schema import FieldOptions, field_names
from tests.rawframes.conftest import MakeStore, contents, run_export, run_import
from tests.rawframes.test_folders import touch
from tests.rawframes.test_frame_files import zip_of

BOTH = tuple(
    FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in ("flow", "flow_backward")
)


def test_steps_are_read_from_folders_and_zips(tmp_path: Path) -> None:
    touch(tmp_path / "a", "flow_x_p3_00000.jpg", "flow_y_p3_00000.jpg", "img_00000.jpg")
    touch(tmp_path / "b", "flow_x_00000.png", "flow_x_m2_00002.jpg")
    zip_of(touch(tmp_path / "c", "flow_x_p3_00000.jpg"), tmp_path / "c.zip")
    (tmp_path / "bad.zip").write_bytes(b"x")
    found = {one.path.name: one for one in find_steps(tmp_path, LAYOUTS["denseflow"])}
    assert {name: (set(one.forward), set(one.backward)) for name, one in found.items()} == {
        "a": ({3}, set()),
        "b": ({1}, {2}),
        "c.zip": ({3}, set()),
    }
    assert find_steps(tmp_path, LAYOUTS["tsn"]) == []
    assert [one.path.name for one in find_steps(tmp_path, LAYOUTS["denseflow"], [tmp_path / "a"])] == ["a"]
    named = find_steps(tmp_path, LAYOUTS["denseflow"], [tmp_path / "c", tmp_path / "gone"])
    assert [one.path.name for one in named] == ["c.zip"]


def test_several_steps_are_named_and_asked_about(tmp_path: Path) -> None:
    touch(tmp_path / "a", "flow_x_p3_00000.jpg")
    touch(tmp_path / "b", "flow_x_00000.jpg")
    with pytest.raises(InputError, match=r"several steps, 1 \(as in .*b\), 3 \(as in .*a\).*--step"):
        one_step(find_steps(tmp_path, LAYOUTS["denseflow"]))


def test_backward_flow_in_some_folders_is_named_and_asked_about(tmp_path: Path) -> None:
    touch(tmp_path / "a", "flow_x_00000.jpg", "flow_x_m1_00001.jpg")
    touch(tmp_path / "b", "flow_x_00000.jpg")
    with pytest.raises(InputError, match=r"1 folders have backward flow.*--no-backward"):
        with_backward(find_steps(tmp_path, LAYOUTS["denseflow"]), 1)


@pytest.mark.parametrize("step", [1, 3])
def test_denseflows_folders_come_back_without_a_word_on_their_step(
    make_store: MakeStore, tmp_path: Path, step: int
) -> None:
    store = make_store({"walk/a": 7, "b": 5}, flow_codec="jpeg", step=step, fields=BOTH)
    run_export(store, tmp_path / "forward", "denseflow", list_prefix="")
    report = run_import(tmp_path / "forward", tmp_path / "in.h5", "denseflow")
    assert (report.stored, report.failures) == (2, ())
    run_export(tmp_path / "in.h5", tmp_path / "again", "denseflow", list_prefix="")
    assert contents(tmp_path / "again") == contents(tmp_path / "forward")
    with flowkit.open(tmp_path / "in.h5") as opened:
        assert opened.options.step == step
        assert field_names(opened.options) == ("flow",)


@pytest.mark.parametrize("step", [1, 3])
def test_both_directions_in_one_folder_are_two_fields(
    make_store: MakeStore, tmp_path: Path, step: int
) -> None:
    store = make_store({"walk/a": 7, "b": 5}, flow_codec="jpeg", step=step, fields=BOTH)
    folder = tmp_path / "both"
    run_export(store, folder, "denseflow", list_prefix="", field="both")
    run_export(store, tmp_path / "backward", "denseflow", field="flow_backward", content="flow")
    for name in ("walk/a", "b"):
        backward = {file.name: file.read_bytes() for file in (tmp_path / "backward" / name).iterdir()}
        assert backward == {file.name: file.read_bytes() for file in (folder / name).glob("*_m*")}
    report = run_import(folder, tmp_path / "in.h5", "denseflow")
    assert (report.stored, report.failures) == (2, ())
    assert flowkit.verify(tmp_path / "in.h5").sound
    with flowkit.open(store) as one, flowkit.open(tmp_path / "in.h5") as two:
        assert field_names(two.options) == ("flow", "flow_backward")
        for name in ("walk/a", "b"):
            for field in ("flow", "flow_backward"):
                planes, copied = (opened.stored_video(name).field(field) for opened in (one, two))
                assert [planes.chunks(k) for k in range(5 - step)] == [
                    copied.chunks(k) for k in range(5 - step)
                ]
    run_export(tmp_path / "in.h5", tmp_path / "again", "denseflow", list_prefix="", field="both")
    assert contents(tmp_path / "again") == contents(folder)
    run_import(folder, tmp_path / "forward.h5", "denseflow", backward=False)
    with flowkit.open(tmp_path / "forward.h5") as opened:
        assert field_names(opened.options) == ("flow",)


def test_backward_flow_alone_fails_with_the_way_out(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 5}, flow_codec="jpeg", fields=BOTH)
    run_export(store, tmp_path / "backward", "denseflow", field="flow_backward")
    (failure,) = run_import(tmp_path / "backward", tmp_path / "in.h5", "denseflow").failures
    assert failure.reason == "no_flow"
    assert "put both into one folder" in failure.detail


def test_a_layout_without_backward_names_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="layout tsn has no names"):
        run_import(tmp_path, tmp_path / "in.h5", backward=True)


def test_both_directions_need_names_and_a_store_that_has_them(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="denseflow for flow of both directions"):
        run_export(make_store({"a": 4}, fields=BOTH), tmp_path / "out", "tsn", field="both")
    with pytest.raises(InvalidParameterError, match=r"Invalid field \('both'\)"):
        run_export(make_store({"a": 4}, name="one.h5"), tmp_path / "out", "denseflow", field="both")
