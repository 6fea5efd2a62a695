from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from flowkit.errors import InputError
from flowkit.extraction.lists import ListEntry
from flowkit.extraction.sources import (
    ListedPaths,
    VideoSource,
    as_sources,
    check_ids,
    find_sources,
    sources_of_list,
)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def ids(sources: list[VideoSource]) -> list[str]:
    return [source.video_id for source in sources]


def test_ids_are_paths_below_the_folder_and_labels_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path / "HandStand" / "clip_07.avi")
    touch(tmp_path / "root.mp4")
    touch(tmp_path / "HandStand" / "notes.txt")
    touch(tmp_path / "HandStand" / "._clip_07.avi")
    found = find_sources([tmp_path])
    assert [(s.video_id, s.label) for s in found] == [("HandStand/clip_07", "HandStand"), ("root", "")]


def test_numbers_in_ids_sort_as_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        touch(tmp_path / f"clip{number}.mp4")
    assert ids(find_sources([tmp_path])) == ["clip1", "clip9", "clip10"]


def test_a_link_loop_ends(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert ids(find_sources([tmp_path])) == ["a/x"]


def test_a_linked_folder_is_entered(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "x.mp4")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert ids(find_sources([tmp_path / "in"])) == ["link/x"]


def test_a_folder_of_numbered_images_is_one_video(tmp_path: Path) -> None:
    for number in range(3):
        touch(tmp_path / "walk" / "clip1" / f"img_{number:05d}.jpg")
    assert [(s.video_id, s.label) for s in find_sources([tmp_path])] == [("walk/clip1", "walk")]


def test_a_named_file_needs_no_known_suffix(tmp_path: Path) -> None:
    assert ids(find_sources([touch(tmp_path / "odd.xyz"), touch(tmp_path / "plain.mp4")])) == [
        "odd.xyz",
        "plain",
    ]


@pytest.mark.parametrize("name", ["missing.mp4", "empty"])
def test_an_input_without_a_video_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no such file or folder|no video below"):
        find_sources([tmp_path / name])


def test_two_files_of_one_id_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a.avi")
    with pytest.raises(InputError, match=r"id 'a': .*a\.avi and .*a\.mp4.*--keep-suffix"):
        find_sources([tmp_path])
    assert ids(find_sources([tmp_path], keep_suffix=True)) == ["a.avi", "a.mp4"]


def test_an_id_that_is_a_folder_of_another_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a" / "flow.mp4")
    with pytest.raises(InputError, match=r"'a'.*'a/flow'"):
        find_sources([tmp_path])


def test_one_file_named_twice_is_one_video(tmp_path: Path) -> None:
    video = touch(tmp_path / "a.mp4")
    assert ids(find_sources([video, video])) == ["a"]


def test_one_path_needs_no_list(tmp_path: Path) -> None:
    video = touch(tmp_path / "a.mp4")
    assert find_sources(video) == find_sources(str(video)) == find_sources([video])


def test_paths_and_sources_may_be_mixed(tmp_path: Path) -> None:
    ready = VideoSource(path=tmp_path / "b.mp4", video_id="own", label="wave")
    touch(tmp_path / "in" / "x.mp4")
    assert ids(as_sources([str(tmp_path / "in"), ready])) == ["own", "x"]
    assert as_sources(ready) == [ready]
    assert ids(as_sources(tmp_path / "in")) == ["x"]
    with pytest.raises(InputError, match="two inputs have the id 'x'"):
        as_sources([tmp_path / "in", VideoSource(path=tmp_path / "other.mp4", video_id="x")])


def test_bytes_that_are_not_utf8_are_percent_encoded(tmp_path: Path) -> None:
    touch(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    assert ids(find_sources([tmp_path])) == ["caf%E9"]


def test_list_paths_count_from_the_root_and_find_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "wave" / "x.avi")
    (source,) = sources_of_list([ListEntry(path="wave/x")], root=tmp_path)
    assert source == VideoSource(path=tmp_path / "wave" / "x.avi", video_id="wave/x", label="wave")


def test_a_listed_path_that_does_not_exist_stays_in_the_plan(tmp_path: Path) -> None:
    (source,) = sources_of_list([ListEntry(path="gone.mp4", label="wave")], root=tmp_path)
    assert (source.video_id, source.label) == ("gone", "wave")


def test_parts_of_one_file_get_ids_with_their_times(tmp_path: Path) -> None:
    entries = [
        ListEntry(path="x.mp4", start_seconds=0.0, end_seconds=10.0),
        ListEntry(path="x.mp4", start_seconds=2.5, end_seconds=12.0),
        ListEntry(path="x.mp4", start_seconds=5.0),
    ]
    assert ids(sources_of_list(entries, root=tmp_path)) == [
        "x_000000_000010",
        "x_000002.500_000012",
        "x_000005_end",
    ]


def test_one_file_with_two_labels_is_refused(tmp_path: Path) -> None:
    entries = [ListEntry(path="x.mp4", label="a"), ListEntry(path="x.mp4", label="b")]
    with pytest.raises(InputError, match="two inputs have the id 'x'"):
        sources_of_list(entries, root=tmp_path)


def test_a_hostile_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\.\.'"):
        check_ids([VideoSource(path=tmp_path, video_id="../x")])


@pytest.mark.parametrize("folder", [".", "air drumming", "air_drumming"])
def test_kinetics_trimmed_files_are_found_from_its_own_list(folder: str, tmp_path: Path) -> None:
    """A file with its times in the name is cut already: it is taken whole."""
    touch(tmp_path / folder / "-0nJ_000010_000020.mp4")
    entry = ListEntry(path="-0nJ", label="air drumming", start_seconds=10.0, end_seconds=20.0)
    (source,) = sources_of_list([entry], root=tmp_path)
    assert source.path == tmp_path / folder / "-0nJ_000010_000020.mp4"
    assert source.times == (None, None)
    assert source.label == "air drumming"
    assert PurePath(source.video_id).name == "-0nJ_000010_000020"


def test_an_untrimmed_file_is_cut_by_its_lists_times(tmp_path: Path) -> None:
    touch(tmp_path / "-0nJ.mp4")
    touch(tmp_path / "-0nJ_000010_000020.mp4")
    entry = ListEntry(path="-0nJ", start_seconds=10.0, end_seconds=20.0)
    (source,) = sources_of_list([entry], root=tmp_path)
    assert (source.path, source.times) == (tmp_path / "-0nJ.mp4", (10.0, 20.0))


def test_a_listed_name_exists_with_or_without_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "#1.avi")
    assert "#1.avi" in ListedPaths(tmp_path)
    assert "#1" in ListedPaths(tmp_path)
    for name in ("#2", "x" * 9999, "a\0b"):
        assert name not in ListedPaths(tmp_path)
