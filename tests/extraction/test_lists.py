from __future__ import annotations

import pytest

from flowkit.errors import InputError
from flowkit.extraction.lists import ListEntry, VideoList, parse_list


def parse(text: str, **options: object) -> list[ListEntry]:
    lines = text.splitlines(keepends=True)
    return list(parse_list(lines, source="list.txt", **options).entries)  # type: ignore[arg-type]


def test_tsn_lines_give_path_and_label() -> None:
    assert parse("a/x.avi 120 3\nb/y.avi 99 wave\n") == [
        ListEntry(path="a/x.avi", label="3"),
        ListEntry(path="b/y.avi", label="wave"),
    ]
    assert parse("a/x.avi 3\nb/y.avi wave\n") == [
        ListEntry(path="a/x.avi", label="3"),
        ListEntry(path="b/y.avi", label="wave"),
    ]
    assert parse("c.avi\n") == [ListEntry(path="c.avi")]


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
        ("# only a comment\n", "the list is empty but for comments"),
        ("path,start\na.mp4,soon\n", r"list\.txt:2: expected a time in seconds, got 'soon'"),
        (
            "path,start,end\na.mp4,5,2\n",
            r"list\.txt:2: a\.mp4: start must be .* before end, got 5 to 2 s",
        ),
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


HMDB51 = "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"


@pytest.mark.parametrize("line", [HMDB51, f"{HMDB51} 3", f"{HMDB51} 120 3", f"{HMDB51}\t3"])
def test_a_line_that_starts_with_a_hash_is_a_video_where_one_has_that_name(line: str) -> None:
    label = None if line == HMDB51 else "3"
    found = parse_list([line], source="list.txt", is_video=HMDB51.__eq__)
    assert found == VideoList(entries=(ListEntry(path=HMDB51, label=label),))


def test_lines_that_are_comments_are_counted_and_named() -> None:
    lines = ["# train split", "a.avi 1", "#b.avi 2", "# c", "# d"]
    found = parse_list(lines, source="list.txt", is_video="a.avi".__eq__)
    assert [entry.path for entry in found.entries] == ["a.avi"]
    (note,) = found.notes
    assert note.startswith("list.txt: 4 lines that start with '#' name no video and are skipped")
    assert "line 1: '# train split', line 3: '#b.avi 2', line 4: '# c', ..." in note


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_divided_by_commas_semicolons_or_tabs(delimiter: str) -> None:
    text = delimiter.join(["path", "label"]) + "\n" + delimiter.join(["my clip.mp4", "air, drumming"]) + "\n"
    if delimiter == ",":
        text = 'path,label\nmy clip.mp4,"air, drumming"\n'
    assert parse(text) == [ListEntry(path="my clip.mp4", label="air, drumming")]


def test_tabs_divide_without_a_header_too() -> None:
    assert parse("my clip.mp4\twave\n") == [ListEntry(path="my clip.mp4", label="wave")]
    assert parse("my clip.mp4\t120\t3\n") == [ListEntry(path="my clip.mp4", label="3")]


@pytest.mark.parametrize("mark", [",", ";"])
def test_columns_without_a_header_are_refused_with_the_header_to_write(mark: str) -> None:
    with pytest.raises(InputError, match=rf"'a\.mp4{mark}1'; .* needs a header such as path{mark}label"):
        parse(f"a.mp4{mark}1\nb.mp4{mark}2\n")
    # A name may hold the mark, and a missing video costs only itself.
    assert parse(f"a{mark}b.mp4\nc.mp4\n")[0].path == f"a{mark}b.mp4"
    assert parse(f"a{mark}b.mp4\n", is_video=f"a{mark}b.mp4".__eq__) == [ListEntry(path=f"a{mark}b.mp4")]


def test_a_whole_line_that_is_a_video_is_that_video() -> None:
    """`find` writes names with spaces as they are."""
    known = {"my clip.mp4", "take 3 7.mp4"}
    assert parse("my clip.mp4\ntake 3 7.mp4\n", is_video=known.__contains__) == [
        ListEntry(path="my clip.mp4"),
        ListEntry(path="take 3 7.mp4"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "d 10 1 3 5\n",
            r"list\.txt:1: d has several labels \(1, 3, 5\), expected one: a clip has one class",
        ),
        ("d 10 1 3\n", r"several labels \(1, 3\)"),
        ("a 10 1\nb 12\n", r"1 lines are `path nframes label`, and 1 have one number \(line 2\)"),
        ("a 1\nb\nc\n", r"2 of 3 lines have no label \(line 2\), expected one on each or on none"),
    ],
)
def test_several_labels_or_none_on_some_lines_are_said(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_a_path_of_numbers_that_exists_has_one_label() -> None:
    entry = ListEntry(path="walk 1 2", label="3")
    assert parse("walk 1 2 120 3\n", is_video="walk 1 2".__eq__) == [entry]


def test_a_label_that_contradicts_the_folder_of_another_label_is_refused() -> None:
    with pytest.raises(InputError, match=r"run/b\.avi has the label 'walk', but its folder is that of 'run'"):
        parse("path,label\nwalk/a.avi,walk\nrun/b.avi,walk\nrun/c.avi,run\n")
    # A folder that is no class says nothing.
    assert parse("path,label\ntrain/a.avi,walk\ntrain/b.avi,run\n")[1].label == "run"


def parse_folders(text: str, **options: object) -> list[ListEntry]:
    return parse(text, of_folders=True, **options)


def test_lists_of_folders_have_counts_and_ranges() -> None:
    assert parse_folders("a/x 120 3\nb/y 99 wave\n") == [
        ListEntry(path="a/x", label="3", n_frames=120),
        ListEntry(path="b/y", label="wave", n_frames=99),
    ]
    assert parse_folders("a/x 12 120 3\nmy clips/y\t0\t9\twave\n") == [
        ListEntry(path="a/x", label="3", first_frame=12, n_frames=120),
        ListEntry(path="my clips/y", label="wave", first_frame=0, n_frames=9),
    ]
    # A path that exists is a path: `take 3`, of 7 frames.
    assert parse_folders("take 3 7 wave\n", is_video="take 3".__eq__) == [
        ListEntry(path="take 3", label="wave", n_frames=7)
    ]
    assert parse_folders("a wave\nb run\n") == [
        ListEntry(path="a", label="wave"),
        ListEntry(path="b", label="run"),
    ]


def test_a_csv_of_folders_may_have_offset_and_frames() -> None:
    text = "path,offset,frames,label\na,3,9,wave\nb,,,run\n"
    assert parse_folders(text) == [
        ListEntry(path="a", label="wave", first_frame=3, n_frames=9),
        ListEntry(path="b", label="run"),
    ]
    assert parse(text)[0] == ListEntry(path="a", label="wave")  # a video's frames are counted


@pytest.mark.parametrize("line", ["my clips/a 7 9", "my clips/a,7,9", "my clips/a;7;9", "my clips/a\t7\t9"])
def test_named_columns_are_read_whatever_divides_them(line: str) -> None:
    assert parse_folders(line, columns=("path", "frames", "label")) == [
        ListEntry(path="my clips/a", label="9", n_frames=7)
    ]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a 9\n", (), "may be its frames or its class; say which with --list-columns path,frames"),
        ("a 1 9 2 3\n", (), r"several labels or more columns than path, offset, nframes, label: 1, 9, 2, 3"),
        ("a 1 9 2\nb 9 2\n", (), r"1 of 2 lines have an offset \(line 1\), expected one on each"),
        ("a nine\n", ("path", "frames"), "expected a number of frames, got 'nine'"),
        ("a 9 2\n", ("path", "offset", "frames", "label"), r"list\.txt:1: expected 4 columns"),
        ("a 9\n", ("path", "offset"), "needs the column frames"),
        ("a 9\n", ("frames", "label"), "columns of a list are path and some of"),
        ("path,label\na,9\n", ("path", "frames"), "has a header"),
        ("path,frames\na,x\n", (), "expected a number of frames, got 'x'"),
    ],
)
def test_a_list_of_folders_that_is_not_clear_is_refused(
    text: str, columns: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_folders(text, columns=columns)
