"""Folders of videos, images and other files: what is a video, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowkit.errors import InputError
from flowkit.extraction import search
from flowkit.extraction.search import SYSTEM_FOLDERS, FoundVideos, ImagesRule, search_folder, walk_folders
from flowkit.extraction.sources import find_sources
from tests.make.clips import moving_texture, write_video


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(found: FoundVideos, root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in found.videos]


@pytest.mark.parametrize(
    "image",
    ["HandStand/clip_01.jpg", "HandStand/clip [dQw4w9WgXcQ].webp", "01.jpg"],
    ids=["thumbnail", "as downloaders write it", "in the root"],
)
def test_images_beside_videos_are_no_sequence_and_are_named(image: str, tmp_path: Path) -> None:
    for k in range(2):
        touch(tmp_path / "HandStand" / f"clip_0{k}.mp4")
    touch(tmp_path / image)
    found = search_folder(tmp_path)
    assert names(found, tmp_path) == ["HandStand/clip_00.mp4", "HandStand/clip_01.mp4"]
    (note,) = found.notes
    assert note.startswith(f"{tmp_path}: 1 images ignored, since videos are beside or below them")
    assert f"({image})" in note
    assert "--images sequence" in note


def test_images_in_a_folder_of_their_own_are_a_video_and_cost_no_other(tmp_path: Path) -> None:
    touch(tmp_path / "HandStand" / "clip.mp4")
    touch(tmp_path / "HandStand" / "posters" / "01.png")
    found = search_folder(tmp_path)
    assert names(found, tmp_path) == ["HandStand/clip.mp4", "HandStand/posters"]


def test_one_image_in_the_root_leaves_the_sequences_below(tmp_path: Path) -> None:
    touch(tmp_path / "poster_01.jpg")
    for clip in "ab":
        for k in range(3):
            touch(tmp_path / clip / f"img_{k:05d}.jpg")
    assert names(search_folder(tmp_path), tmp_path) == ["a", "b"]
    assert "poster_01.jpg" in search_folder(tmp_path).notes[0]


def test_few_images_below_a_sequence_are_no_video_and_are_named(tmp_path: Path) -> None:
    for k in range(5):
        touch(tmp_path / "clip" / f"img_{k:05d}.jpg")
    touch(tmp_path / "clip" / "thumbs" / "1.jpg")
    found = search_folder(tmp_path)
    assert names(found, tmp_path) == ["clip"]
    assert "1 inside folders of images that count as one video (clip/thumbs/1.jpg)" in found.notes[0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("auto", ["c/x.mp4", "s"]), ("sequence", ["c", "s"]), ("ignore", ["c/x.mp4"])],
)
def test_the_rule_for_images_can_be_chosen(rule: ImagesRule, expected: list[str], tmp_path: Path) -> None:
    touch(tmp_path / "c" / "x.mp4")
    for folder in "cs":
        for k in range(2):
            touch(tmp_path / folder / f"{k}.jpg")
    found = search_folder(tmp_path, images=rule)
    assert names(found, tmp_path) == expected
    # Nothing is lost without a word.
    said = " ".join(found.notes)
    assert ("c/x.mp4" in said) == (rule == "sequence")
    assert ("images ignored" in said) == (rule != "sequence")


def test_a_folder_of_images_alone_is_itself_the_video(tmp_path: Path) -> None:
    for k in range(2):
        touch(tmp_path / "walk" / f"{k}.jpg")
    assert search_folder(tmp_path / "walk") == FoundVideos(videos=(tmp_path / "walk",), notes=(), others="")
    (source,) = find_sources(tmp_path / "walk")
    assert (source.video_id, source.label) == ("walk", "")


@pytest.mark.parametrize(
    ("suffix", "codec", "form"), [(".nut", "libx264", "yuv420p"), (".gif", "gif", "rgb8")]
)
def test_videos_of_other_suffixes_are_found_by_their_content(
    suffix: str, codec: str, form: str, tmp_path: Path
) -> None:
    write_video(tmp_path / f"odd{suffix}", moving_texture(4), codec=codec, pixel_format=form)
    write_video(tmp_path / "plain.mp4", moving_texture(4)).rename(tmp_path / "renamed")
    touch(tmp_path / "readme.txt", b"text")
    touch(tmp_path / "x.bin", bytes(range(256)) * 9)
    touch(tmp_path / ".hidden.mp4")
    found = search_folder(tmp_path)
    assert names(found, tmp_path) == [f"odd{suffix}", "renamed"]
    assert found.notes == ()
    assert found.others == "no videos and left out: 1 .bin, 1 .txt, 1 hidden (readme.txt, x.bin)"


def test_many_files_of_a_suffix_without_a_video_are_not_all_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def never(path: Path) -> bool:
        opened.append(path)
        return False

    monkeypatch.setattr(search, "is_video_file", never)
    monkeypatch.setattr(search, "_MOST_PROBED", 3)
    for k in range(9):
        touch(tmp_path / f"{k}.dat")
    assert search_folder(tmp_path).others.endswith(
        "; 6 of them not opened (after 3 of a suffix that were none)"
    )
    assert len(opened) == 3
    opened.clear()
    monkeypatch.setattr(search, "can_detect", lambda: False)
    assert search_folder(tmp_path).others.endswith("; 9 of them not opened (PyAV is not installed)")
    assert not opened


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "open" / "a.mp4")
    touch(tmp_path / "closed" / "b.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = search_folder(tmp_path)
    assert names(found, tmp_path) == ["open/a.mp4"]
    assert found.notes == (f"{tmp_path}/closed: cannot be read: Permission denied; what is in it is missing",)
    with pytest.raises(InputError, match=r"closed cannot be read: Permission denied"):
        find_sources(tmp_path / "closed")


def test_walks_tell_each_folder_that_cannot_be_read(tmp_path: Path) -> None:
    errors: list[OSError] = []
    assert list(walk_folders(tmp_path / "gone", on_error=errors.append)) == []
    assert [error.filename for error in errors] == [str(tmp_path / "gone")]


def test_notes_are_warnings_unless_somebody_takes_them(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a_1.jpg")
    touch(tmp_path / "notes.txt")
    with pytest.warns(UserWarning, match="1 images ignored"):
        find_sources(tmp_path)
    said: list[str] = []
    find_sources(tmp_path, on_note=said.append)
    assert [note.partition(": ")[2][:9] for note in said] == ["1 images ", "no videos"]


def test_an_input_without_a_video_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(
        InputError, match=r"no video below .*; no videos and left out: 1 \.txt \(notes\.txt\)"
    ):
        find_sources(tmp_path)


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_desktops_and_servers_are_not_entered(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "below").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    assert [folder.name for folder, _, _ in walk_folders(tmp_path)] == [tmp_path.name, "own"]
