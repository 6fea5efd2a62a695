"""Frames and flow in trees of their own, out and in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import InputError
from flowkit.extraction.lists import ListEntry
from flowkit.rawframes.layouts import readings
from flowkit.rawframes.trees import find_trees
from flowkit.store.schema import FieldOptions
from tests.rawframes.conftest import MakeStore, contents, run_export, run_import

CLIPS = {"walk/a": 5, "walk/b": 2, "run/c": 3, "d": 4}
TEMPLATES = (
    "img=frames/{id}/shot_%04d.png",
    "x=flow/u/{id}/shot_%04d.png",
    "y=flow/{id}/v/shot_%04d.png",
)
# A template's suffix is a name alone: JPEGs go into a .png, whose bytes say what they are.
LAYOUTS: list[tuple[str, tuple[str, ...], dict[str, int], list[str]]] = [
    (
        "feichtenhofer",
        (),
        {},
        [
            "jpegs_256/walk/b/frame000001.jpg",
            "jpegs_256/walk/b/frame000002.jpg",
            "tvl1_flow/u/walk/b/frame000001.jpg",
            "tvl1_flow/v/walk/b/frame000001.jpg",
        ],
    ),
    ("ixy", (), {}, ["walk/b/i/00001.jpg", "walk/b/i/00002.jpg", "walk/b/x/00001.jpg", "walk/b/y/00001.jpg"]),
    (
        "rgb-flow",
        (),
        {"first_index": 0},
        [
            "flow/walk/b/flow_x_00000.jpg",
            "flow/walk/b/flow_y_00000.jpg",
            "rgb/walk/b/img_00000.jpg",
            "rgb/walk/b/img_00001.jpg",
        ],
    ),
    (
        "tsn",
        TEMPLATES,
        {"first_index": 8, "first_flow_index": 3},
        [
            "flow/u/walk/b/shot_0003.png",
            "flow/walk/b/v/shot_0003.png",
            "frames/walk/b/shot_0008.png",
            "frames/walk/b/shot_0009.png",
        ],
    ),
]


@pytest.mark.parametrize(
    ("layout", "templates", "numbers", "files"), LAYOUTS, ids=[one[0] for one in LAYOUTS]
)
@pytest.mark.parametrize("codec", ["q8", "i8", "jpeg"])
def test_trees_go_out_and_come_back(
    make_store: MakeStore,
    tmp_path: Path,
    layout: str,
    templates: tuple[str, ...],
    numbers: dict[str, int],
    files: list[str],
    codec: str,
) -> None:
    store = make_store(CLIPS, flow_codec=codec)
    choices = {"templates": templates, **numbers}
    export = run_export(store, tmp_path / "one", layout, list_prefix="", **choices)
    assert not export.failures
    written = contents(tmp_path / "one")
    assert sorted(name for name in written if "walk/b" in name and "annotations" not in name) == files
    assert written["annotations/all/rgb_all.txt"] == b"run/c 3 0\nwalk/a 5 1\nwalk/b 2 1\n"
    report = run_import(tmp_path / "one", tmp_path / "in.h5", layout, **choices)
    assert (report.stored, report.failures) == (4, ())
    assert run_import(tmp_path / "one", tmp_path / "in.h5", layout, **choices).already_stored == 4
    with flowkit.open(store) as one, flowkit.open(tmp_path / "in.h5") as two:
        assert (list(two), two.labels) == (list(one), one.labels)
        for video_id, n_frames in CLIPS.items():
            frames = [opened.stored_video(video_id).frames for opened in (one, two)]
            assert [frames[0][k] for k in range(n_frames)] == [frames[1][k] for k in range(n_frames)]
            assert two[video_id].label == one[video_id].label
            error = np.abs(one[video_id].flow() - two[video_id].flow())
            # Copied planes are equal; others have half a code of 40/255 px, and JPEG moves single codes by a
            # few. sert float(error.max()) < (1e-6 if codec == "jpeg" else 1.0)
            assert float(error.mean()) < (1e-6 if codec == "jpeg" else 0.15)
    run_export(tmp_path / "in.h5", tmp_path / "two", layout, list_prefix="", **choices)
    assert contents(tmp_path / "two") == written


@pytest.fixture
def trees(make_store: MakeStore, tmp_path: Path) -> Path:
    run_export(make_store(CLIPS, flow_codec="jpeg"), tmp_path / "trees", "feichtenhofer")
    return tmp_path / "trees"


def test_what_a_tree_lacks_costs_its_clip_alone(trees: Path, tmp_path: Path) -> None:
    for name in ("jpegs_256/walk/a", "tvl1_flow/v/d"):
        for file in (trees / name).iterdir():
            file.unlink()
        (trees / name).rmdir()
    (trees / "tvl1_flow/u/run/c/frame000001.jpg").unlink()
    report = run_import(trees, tmp_path / "in.h5", "feichtenhofer")
    assert report.stored == 1
    assert {failure.video_id: failure.reason for failure in report.failures} == {
        "walk/a": "no_frames",
        "d": "uneven_flow",
        "run/c": "missing_files",
    }


def test_a_changed_tree_is_noticed_whichever_it_is(trees: Path, tmp_path: Path) -> None:
    run_import(trees, tmp_path / "in.h5", "feichtenhofer")
    image = trees / "jpegs_256/walk/a/frame000002.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    report = run_import(trees, tmp_path / "in.h5", "feichtenhofer")
    assert [(failure.video_id, failure.reason) for failure in report.failures] == [
        ("walk/a", "source_changed")
    ]


def test_fields_for_all_frames_lose_the_last_with_a_word(trees: Path, tmp_path: Path) -> None:
    for axis in "uv":
        folder = trees / "tvl1_flow" / axis / "walk" / "a"
        (folder / "frame000005.jpg").write_bytes((folder / "frame000004.jpg").read_bytes())
    report = run_import(trees, tmp_path / "in.h5", "feichtenhofer")
    assert not report.failures
    (outcome,) = [outcome for outcome in report.outcomes if outcome.warnings]
    assert (outcome.video_id, outcome.n_frames, outcome.n_flow) == ("walk/a", 5, 4)
    assert "frame000005.jpg is left out" in outcome.warnings[0]


def test_flow_alone_needs_no_tree_of_frames(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 4}, flow_codec="jpeg")
    run_export(store, tmp_path / "trees", "feichtenhofer", content="flow")
    assert not (tmp_path / "trees/jpegs_256").exists()
    report = run_import(tmp_path / "trees", tmp_path / "in.h5", "feichtenhofer", frame_codec="none")
    assert (report.stored, report.failures) == (1, ())
    with pytest.raises(InputError, match=r"no folder .*jpegs_256.*--template"):
        run_import(tmp_path / "trees", tmp_path / "other.h5", "feichtenhofer")


def test_a_list_names_clips_of_trees_by_their_ids(trees: Path, tmp_path: Path) -> None:
    entries = [
        ListEntry(path="walk/a", label="go", n_frames=5),
        ListEntry(path="d", label="stay", n_frames=500),
        ListEntry(path="gone", label="go"),
    ]
    report = run_import(trees, tmp_path / "in.h5", "feichtenhofer", entries=entries)
    assert {failure.video_id: failure.reason for failure in report.failures} == {
        "d": "false_count",
        "gone": "unopenable",
    }
    with flowkit.open(tmp_path / "in.h5") as opened:
        assert [(video_id, opened[video_id].label) for video_id in opened] == [("walk/a", "go")]


def test_other_files_among_the_trees_are_failures_or_said(trees: Path) -> None:
    for name, file in (("jpegs_256/odd", "shot_1.jpg"), ("tvl1_flow/u/notes", "a.txt")):
        (trees / name).mkdir()
        (trees / name / file).write_bytes(b"x")
    (trees / "tvl1_flow/v/__MACOSX").mkdir()
    (trees / "tvl1_flow/v/d.zip").write_bytes(b"x")
    found = find_trees(trees, readings("feichtenhofer"), kinds=("img", "x", "y"))
    assert [(Path(failure.source).name, failure.reason) for failure in found.failures] == [
        ("odd", "unknown_names")
    ]
    assert len(found.sources) == len(CLIPS)
    assert [line.partition(": ")[2] for line in found.ignored] == [
        "passed over: 1 .txt",
        "passed over: 1 .zip",
    ]


@pytest.mark.parametrize("step", [1, 2])
def test_backward_flow_from_a_tree_of_its_own(make_store: MakeStore, tmp_path: Path, step: int) -> None:
    fields = tuple(
        FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in ("flow", "flow_backward")
    )
    store = make_store({"walk/a": 5, "b": 6}, flow_codec="jpeg", step=step, fields=fields)
    word = "" if step == 1 else f"p{step}_"
    run_export(store, tmp_path / "in/forward", "denseflow")
    run_export(store, tmp_path / "in/backward", "denseflow", field="flow_backward", content="flow")
    templates = ["img=forward/{id}/img_%05d.jpg"]
    templates += [f"{axis}=forward/{{id}}/flow_{axis}_{word}%05d.jpg" for axis in "xy"]
    templates += [f"b{axis}=backward/{{id}}/flow_{axis}_m{step}_%05d.jpg" for axis in "xy"]
    report = run_import(
        tmp_path / "in", tmp_path / "in.h5", "denseflow", templates=tuple(templates), backward=True, step=step
    )
    assert (report.stored, report.failures) == (2, ())
    with flowkit.open(store) as one, flowkit.open(tmp_path / "in.h5") as two:
        for video_id in one:
            for field in ("flow", "flow_backward"):
                assert np.array_equal(one[video_id].flow(field=field), two[video_id].flow(field=field))
