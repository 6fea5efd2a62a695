"""Search a folder for videos, and say what of it was not taken for one.

A video is a file of a known suffix, a file of another suffix whose content is a video, or a folder of
numbered images. Images beside videos are thumbnails or posters, no sequence.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

from flowkit.video.detect import can_detect, is_video_file
from flowkit.video.image_folder import IMAGE_SUFFIXES, count_numbered
from flowkit.video.reader import VIDEO_SUFFIXES

ImagesRule: TypeAlias = Literal["auto", "sequence", "ignore"]
"""The rule for folders of numbered images.

"auto" takes one for a video where no video is in it or below it, and no more images below it than in it;
"sequence" takes each, "ignore" none.
"""

SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that zips of macOS, file servers and file systems leave among a user's own."""

# Files of one suffix that are opened in vain before the others of that suffix are not opened.
_MOST_PROBED = 200
_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FoundVideos:
    """The videos below a folder, sorted within each folder, and what is not among them.

    Attributes
    ----------
    videos : tuple of Path
    notes : tuple of str
        On images and folders that somebody may miss.
    others : str
        On files that are no video, by suffix; "" if there are none.
    """

    videos: tuple[Path, ...]
    notes: tuple[str, ...]
    others: str


def walk_folders(
    root: Path, *, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield folders as `os.walk` does; one that is reached twice through links is entered once.

    Folders come in the order of their names, without hidden ones and `SYSTEM_FOLDERS`; clearing the second
    item keeps the walk out of a folder. `on_error` is called for each folder that cannot be read.
    """
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=on_error):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in SYSTEM_FOLDERS)
        yield Path(folder), below, names


@dataclasses.dataclass(slots=True)
class _Folder:
    """The videos and images directly in a folder."""

    videos: list[Path]
    images: list[Path]
    numbered: int


def search_folder(root: Path, *, images: ImagesRule = "auto") -> FoundVideos:
    """Return the videos in a folder and below it.

    Parameters
    ----------
    root : Path
        Symbolic links below it are followed, each real folder once. Hidden files and folders are skipped.
    images : {"auto", "sequence", "ignore"}
        The rule for folders of numbered images; for `root` itself too.

    Raises
    ------
    OSError
        `root` itself cannot be read.
    """
    errors: list[OSError] = []
    probe = _Probe()
    folders = {
        folder: _contents(folder, names, probe)
        for folder, _, names in walk_folders(root, on_error=errors.append)
    }
    if not folders:
        raise errors[0]
    sequences = _sequences(folders, images)
    videos: list[Path] = []
    ignored_images: list[Path] = []
    inside: list[Path] = []
    for folder, held in folders.items():
        if folder in sequences:
            videos.append(folder)
            inside += held.videos
        elif any(parent in sequences for parent in folder.parents):
            inside += [*held.videos, *held.images]
        else:
            videos += held.videos
            ignored_images += held.images
    notes = [
        _images_note(ignored_images, root, images),
        _named("{} inside folders of images that count as one video", inside, root),
        *(
            f"{error.filename}: cannot be read: {error.strerror}; what is in it is missing"
            for error in errors
        ),
    ]
    return FoundVideos(videos=tuple(videos), notes=tuple(filter(None, notes)), others=probe.note(root))


def _contents(folder: Path, names: Iterable[str], probe: _Probe) -> _Folder:
    videos, images = [], []
    for name in sorted(names):
        path = folder / name
        suffix = path.suffix.lower()
        # Files that start with a dot are AppleDouble remains and editors' leftovers.
        if name.startswith("."):
            probe.hidden += 1
        elif suffix in VIDEO_SUFFIXES:
            videos.append(path)
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif probe.is_video(path):
            videos.append(path)
    return _Folder(videos, images, count_numbered(images))


def _sequences(folders: dict[Path, _Folder], rule: ImagesRule) -> set[Path]:
    """Return the folders whose images are one video; none is inside another."""
    below_videos: Counter[Path] = Counter()
    below_images: Counter[Path] = Counter()
    for folder, held in folders.items():
        for parent in folder.parents:
            below_videos[parent] += len(held.videos)
            below_images[parent] += held.numbered
    found: set[Path] = set()
    for folder, held in folders.items():  # from the top
        if not held.numbered or rule == "ignore" or any(parent in found for parent in folder.parents):
            continue
        alone = not held.videos and not below_videos[folder] and held.numbered >= below_images[folder]
        if rule == "sequence" or alone:
            found.add(folder)
    return found


class _Probe:
    """Looks into files of unknown suffixes, and counts those that are no video."""

    def __init__(self) -> None:
        self.hidden = 0
        self._looks = can_detect()
        self._unopened: Counter[str] = Counter()
        self._others: dict[str, list[Path]] = {}
        self._found: Counter[str] = Counter()

    def is_video(self, path: Path) -> bool:
        """Return whether a file's content is a video; if not, it is counted."""
        suffix = path.suffix.lower()
        others = self._others.setdefault(suffix, [])
        opens = self._looks and (len(others) < _MOST_PROBED or self._found[suffix] > 0)
        if opens and is_video_file(path):
            self._found[suffix] += 1
            return True
        others.append(path)
        self._unopened[suffix] += not opens
        return False

    def note(self, root: Path) -> str:
        """Return what was no video, by suffix; "" if there was nothing."""
        counts = [
            f"{len(paths)} {suffix or 'without a suffix'}"
            for suffix, paths in sorted(self._others.items())
            if paths
        ]
        counts += [f"{self.hidden} hidden"] if self.hidden else []
        if not counts:
            return ""
        shown = _names([path for paths in self._others.values() for path in paths], root)
        return f"no videos and left out: {', '.join(counts)}{shown}{self._not_opened()}"

    def _not_opened(self) -> str:
        """Return how many of the files were judged by their suffix, and why."""
        count = sum(self._unopened.values())
        if not count:
            return ""
        why = f"after {_MOST_PROBED} of a suffix that were none" if self._looks else "PyAV is not installed"
        return f"; {count} of them not opened ({why})"


def _images_note(images: list[Path], root: Path, rule: ImagesRule) -> str:
    remedy = "" if rule == "ignore" else "; --images sequence takes each folder of numbered ones for a video"
    note = _named(
        "{} images ignored, since videos are beside or below them, or they are not numbered", images, root
    )
    if rule == "ignore":
        note = _named("{} images ignored, as asked", images, root)
    return note and note + remedy


def _named(text: str, paths: list[Path], root: Path) -> str:
    """Return a note with the number of paths and some of their names; "" for none."""
    return f"{root}: {text.format(len(paths))}{_names(paths, root)}" if paths else ""


def _names(paths: list[Path], root: Path) -> str:
    shown = [str(PurePath(path).relative_to(root)) for path in paths[:_NAMED]]
    more = ", ..." if len(paths) > _NAMED else ""
    return f" ({', '.join(shown)}{more})" if shown else ""
