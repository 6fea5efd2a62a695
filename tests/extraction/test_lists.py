from __future__ import annotations

import pytest

from flowkit.errors import InputError
from flowkit.extraction.lists import ListEntry, parse_list


def parse(text: str, **options: object) -> list[ListEntry]:
    return parse_list(text.splitlines(keepends=True), source="list.txt", **options)  # type: ignore[arg-type]


def test_tsn_lines_give_path_and_label() -> None:
    assert parse("a/x.avi 120 3\nb/y.avi 4\nc.avi\n") == [
        ListEntry(path="a/x.avi", label="3"),
        ListEntry(path="b/y.avi", label="4"),
        ListEntry(path="c.avi"),
    ]


def test_a_path_with_spaces_needs_its_frame_count_and_label() -> None:
    assert parse("my clips/x y.avi 120 wave\n") == [ListEntry(path="my clips/x y.avi", label="wave")]
    with pytest.raises(InputError, match=r"list\.txt:1: .*use CSV"):
        parse("my clips/x y.avi wave\n")


def test_csv_gives_times_and_ids() -> None:
    text = "label,path,start,end,id\nwave,a.mp4,1.5,3,first\n,b.mp4,,,\n"
    assert parse(text) == [
        ListEntry(path="a.mp4", label="wave", start_seconds=1.5, end_seconds=3.0, video_id="first"),
        ListEntry(path="b.mp4"),
    ]


def test_kinetics_columns_are_known() -> None:
    text = "label,youtube_id,time_start,time_end,split\nair drumming,-0nJ,0,10,train\n"
    assert parse(text) == [ListEntry(path="-0nJ", label="air drumming", start_seconds=0.0, end_seconds=10.0)]


def test_quoted_cells_keep_their_commas() -> None:
    assert parse('path,label\n"a, b.mp4",wave\n')[0].path == "a, b.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("# only a comment\n", "the list is empty"),
        ("path,start\na.mp4,soon\n", r"list\.txt:2: expected a time in seconds, got 'soon'"),
        ("path,start,end\na.mp4,5,2\n", "start must be >= 0 and before end, got 5 to 2 s"),
        ("path,start\na.mp4,-1\n", "start must be >= 0"),
        ("path,label\n,wave\n", r"list\.txt:2: no path"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_integer_labels_take_their_names() -> None:
    (entry,) = parse("Run/x.avi 10 2\n", classes={1: "Jump", 2: "Run"})
    assert entry.label == "Run"


def test_a_list_from_zero_beside_classes_from_one_is_caught_by_the_folder() -> None:
    with pytest.raises(InputError, match=r"label 1 of Run/x\.avi is 'Jump' .* folder says Run"):
        parse("Run/x.avi 10 1\n", classes={1: "Jump", 2: "Run"})


def test_a_label_outside_the_class_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"label '0' .* \(it has 1 to 2\)"):
        parse("x.avi 10 0\n", classes={1: "Jump", 2: "Run"})
