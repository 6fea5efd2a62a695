from __future__ import annotations

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.rawframes.layouts import LAYOUTS, make_layout
from flowkit.rawframes.layouts.layout import NameTemplate


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("tsn", ("img_00001.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg")),
        ("denseflow", ("img_00000.jpg", "flow_x_00000.jpg", "flow_y_00000.jpg")),
        ("mmaction2", ("img_00001.jpg", "x_00001.jpg", "y_00001.jpg")),
        ("webdataset-images", ("img_00000.jpg", "flow_x_00000.jpg", "flow_y_00000.jpg")),
    ],
)
def test_first_frame_and_flow_have_the_tools_own_names(layout: str, names: tuple[str, ...]) -> None:
    made = make_layout(layout)
    assert (made.file_name("img", 0), made.file_name("x", 0), made.file_name("y", 0)) == names


def test_numbers_grow_beyond_their_five_digits() -> None:
    assert make_layout("tsn").file_name("img", 123_456) == "img_123457.jpg"


def test_denseflow_writes_the_step_into_its_names() -> None:
    assert make_layout("denseflow", step=3).file_name("x", 4) == "flow_x_p3_00004.jpg"


def test_denseflow_numbers_backward_flow_by_the_frame_it_starts_from() -> None:
    made = make_layout("denseflow", step=2, backward=True)
    assert made.file_name("x", 0) == "flow_x_m2_00002.jpg"
    assert made.file_name("img", 0) == "img_00000.jpg"


def test_a_template_and_a_first_index_replace_the_layouts_own() -> None:
    made = make_layout("mmaction2", templates=["x=flow_x_%05d.jpg"], first_index=0)
    assert made.file_name("x", 0) == "flow_x_00000.jpg"
    assert made.file_name("y", 0) == "y_00000.jpg"


@pytest.mark.parametrize(
    "pattern",
    [
        *("img.jpg", "%d_%d.jpg", "img_%s.jpg", "../%05d.jpg", "a/%05d.jpg", ".%05d", "%05d%%.jpg"),
        *("/{id}/%05d.jpg", "{id}/../%05d.jpg", "{id}//%05d.jpg", "{id}/{id}/%05d.jpg", "a{id}/%05d.jpg"),
        *("%d/{id}/a.jpg", "%d/{id}/%d.jpg", "{id}/{x}/%d.jpg"),
    ],
)
def test_a_template_that_is_no_plain_numbered_name_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameterError, match="template"):
        NameTemplate(pattern=pattern)


def test_two_kinds_of_files_cannot_share_names() -> None:
    with pytest.raises(InvalidParameterError, match="share"):
        make_layout("tsn", templates=["x=f_%05d.jpg", "y=f_%05d.jpg"])


@pytest.mark.parametrize("text", ["z=%05d.jpg", "flo=%05d.flo", "x"])
def test_a_template_of_an_unknown_kind_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError):
        make_layout("tsn", templates=[text])


def test_an_unknown_layout_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(InvalidParameterError, match="denseflow"):
        make_layout("i3d")


def test_numbers_are_read_back_in_order_and_strays_passed_over() -> None:
    template = NameTemplate(pattern="x_%05d.jpg")
    names = ["x_00010.jpg", "x_00002.jpg", "x_7.jpg", "flow_x_00001.jpg", "x_00003.jpg.tmp", "x_100000.jpg"]
    assert list(template.numbers(names)) == [2, 10, 100_000]


TEMPLATES = {f"{name} {kind}": t for name, layout in LAYOUTS.items() for kind, t in layout.templates.items()}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_every_template_reads_what_it_writes(template: NameTemplate) -> None:
    assert template.numbers([template.name(7)]) == {7: template.name(7)}


def test_layouts_of_one_file_a_frame_have_templates() -> None:
    kinds = {name: set(layout.templates) for name, layout in LAYOUTS.items()}
    assert kinds == {
        **{name: {"img", "x", "y"} for name in ("tsn", "denseflow", "mmaction2", "webdataset-images")},
        **{name: {"img", "x", "y"} for name in ("feichtenhofer", "ixy", "rgb-flow")},
        **{name: {"img", "flo"} for name in ("flo", "kitti")},
        # A clip has arrays or streams of fixed names.
        "npy": set(),
        "webdataset": set(),
    }


def test_flow_may_start_at_a_number_of_its_own() -> None:
    made = make_layout("tsn", first_index=0, first_flow_index=1)
    assert (made.file_name("img", 0), made.file_name("x", 0)) == ("img_00000.jpg", "flow_x_00001.jpg")


def test_a_template_with_folders_makes_a_layout_of_trees() -> None:
    made = make_layout("tsn", templates=["x=u/{id}/%05d.jpg", "y=v/{id}/%05d.jpg"])
    assert made.in_trees
    assert made.folders == {"{id}": ("img",), "u/{id}": ("x",), "v/{id}": ("y",)}
    assert not make_layout("tsn").in_trees
