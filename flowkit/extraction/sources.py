"""Files, folders and lists → the videos to extract, each with one id and one label.

Inputs are files, folders (recursive), tar archives, addresses, and list files, or "-" for a list on standard
input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import cast, get_args

from flowkit.errors import InputError
from flowkit.extraction.address_input import address_videos
from flowkit.extraction.held import HeldVideo
from flowkit.extraction.lists import ListEntry
from flowkit.extraction.search import FoundVideos, ImagesRule, search_folder
from flowkit.extraction.tar_input import HeldVideos, tar_compression, tar_videos
from flowkit.remote import Location, RemotePath, locate
from flowkit.store.record import check_id_set, check_video_id, encode_video_id
from flowkit.validate import check_choice
from flowkit.video.reader import VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoSource:
    """One video to extract.

    Parameters
    ----------
    path : Path
        The file, or the folder of numbered images.
    video_id : str
        Its name in the store: the path below the input folder without the suffix.
    label : str
        Its class, "" where none is known.
    start_seconds, end_seconds : float or None
        The part of the video, seconds; None is from its start, to its end.
    beside : tuple of Path
        Further folders of it: of frames and flow in trees of their own.
    held : HeldVideo, optional
        The archive or address that it is fetched from; `path` is then the name of it.
    """

    path: Path
    video_id: str
    label: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    beside: tuple[Path, ...] = ()
    held: HeldVideo | None = None

    @property
    def name(self) -> str:
        """Its path, or the archive or address as it was given and the path there."""
        return str(self.path) if self.held is None else self.held.name

    @property
    def times(self) -> tuple[float | None, float | None]:
        """Start and end in seconds, which identify the part."""
        return (self.start_seconds, self.end_seconds)


def as_sources(
    sources: str | Location | VideoSource | Iterable[str | Location | VideoSource],
) -> list[VideoSource]:
    """Return videos as sources, those of paths found as `find_sources` does.

    Raises
    ------
    InputError
        A path does not exist or holds no video; two videos have one id.
    """
    given = [sources] if isinstance(sources, str | Location | VideoSource) else list(sources)
    ready = [source for source in given if isinstance(source, VideoSource)]
    paths = [source for source in given if not isinstance(source, VideoSource)]
    return check_ids([*ready, *find_sources(paths)]) if paths else ready


def find_sources(
    inputs: str | Location | Iterable[str | Location],
    *,
    keep_suffix: bool = False,
    images: ImagesRule = "auto",
    on_note: Callable[[str], None] | None = None,
) -> list[VideoSource]:
    """Return the videos that files, folders, tar archives and addresses hold, sorted by id.

    Parameters
    ----------
    inputs : str or Path, or an iterable of them
        Files (whatever their suffix) and folders. A folder is searched recursively for files of the
        suffixes of `flowkit.video.reader.VIDEO_SUFFIXES`, for other files whose content is a video, and
        for folders of numbered images; symbolic links are followed, each real folder once. Of a `.tar`,
        `.tar.gz`, `.tar.bz2` or `.tar.xz`, and of a folder at an address of fsspec (`s3://bucket/videos/`,
        `https://host/clip.mp4`), the files of these suffixes are the videos.
    keep_suffix : bool
        Keep the file's suffix in its id.
    images : {"auto", "sequence", "ignore"}
        Folders of numbered images: "auto" takes one for a video where no video is in it or below it, and no
        more images below it than in it; "sequence" takes each, "ignore" none.
    on_note : callable, optional
        Called with a sentence on images that are ignored, on each folder that cannot be read, and on
        files that are no video; default: a warning for each but the last.

    Raises
    ------
    InputError
        An input does not exist, cannot be read or holds no video; two inputs have one id; a package that
        an address needs is not installed.
    InvalidParameterError
        No such rule for images.
    """
    check_choice("images", images, get_args(ImagesRule))
    names = [inputs] if isinstance(inputs, str | Location) else inputs
    sources: list[VideoSource] = []
    for name in names:
        location = locate(name)
        held = _held_by(location)
        if held is not None:
            sources += _held_sources(location, held, keep_suffix)
            notes, others = held.notes, ""
        else:
            path = cast(Path, location)  # an address is always one that holds
            found = _search(path, images)
            sources += _sources_of(path, found, keep_suffix)
            notes, others = found.notes, found.others
        if on_note is None:
            for note in notes:
                warnings.warn(note, UserWarning, stacklevel=2)
        else:
            for note in (*notes, *([f"{name}: {others}"] if others else [])):
                on_note(note)
    return check_ids(sources)


def _held_by(location: Location) -> HeldVideos | None:
    """Return the videos in an archive or at an address; None for other files and folders."""
    compression = tar_compression(location.name)
    try:
        if compression is not None and (isinstance(location, RemotePath) or location.is_file()):
            return tar_videos(location, compression)
        return address_videos(location) if isinstance(location, RemotePath) else None
    except OSError as error:
        raise InputError(f"{location} cannot be read: {error.strerror or error}") from error


def _held_sources(location: Location, found: HeldVideos, keep_suffix: bool) -> list[VideoSource]:
    if not found.videos:
        raise InputError(
            f"no video in {location}: looked for {', '.join(sorted(VIDEO_SUFFIXES))}; "
            f"{'; '.join(found.notes) or 'it holds no file'}"
        )
    return [
        VideoSource(
            path=Path(video.name),
            video_id=_id_of(PurePath(path), keep_suffix=keep_suffix),
            label=_label_of(PurePath(path)),
            held=video,
        )
        for path, video in found.videos
    ]


def sources_of_list(
    entries: Iterable[ListEntry], *, root: Path, keep_suffix: bool = False
) -> list[VideoSource]:
    """Return the videos that a list names, sorted by id.

    A relative path counts from `root`. A path that does not exist stays in the list: it alone
    fails, in the ledger, not the whole run. A path without its suffix finds the one video of
    that name, also in the folder of its label. Two parts of one file get ids with their times, as
    in Kinetics (`name_000010_000020`); a file of that name is the part already, and is taken whole.

    Raises
    ------
    InputError
        Two entries have one id.
    """
    sources, listed = [], ListedPaths(root)
    for given in entries:
        path, entry = _located(given, root, listed)
        shown = _below(path, root)
        name = _id_of(shown, keep_suffix=keep_suffix)
        if entry.start_seconds is not None or entry.end_seconds is not None:
            name += _time_suffix(entry.start_seconds or 0.0) + _time_suffix(entry.end_seconds)
        name = encode_video_id(entry.video_id) if entry.video_id else name
        label = entry.label if entry.label is not None else _label_of(shown)
        sources.append(
            VideoSource(
                path=path,
                video_id=name,
                label=label,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
            )
        )
    return check_ids(sources)


def check_ids(sources: Iterable[VideoSource]) -> list[VideoSource]:
    """Return the sources sorted by id; the same video named twice is one.

    Raises
    ------
    InputError
        Two sources have one id, or one id would be a folder of the other.
    """
    by_id: dict[str, VideoSource] = {}
    for source in sources:
        other = by_id.setdefault(source.video_id, source)
        if source is not other and _is_other(source, other):
            raise InputError(
                f"two inputs have the id {source.video_id!r}: {_shown(other)} and {_shown(source)}; "
                "rename one, give their common parent folder, or use --keep-suffix"
            )
    check_id_set({name: source.name for name, source in by_id.items()})
    for name in by_id:
        check_video_id(name)
    return [by_id[name] for name in sorted(by_id, key=_natural)]


def _is_other(source: VideoSource, other: VideoSource) -> bool:
    same_file = os.path.realpath(source.path) == os.path.realpath(other.path)
    return not same_file or source.times != other.times or source.label != other.label


def _shown(source: VideoSource) -> str:
    return f"{source.name} (label {source.label!r})" if source.label else source.name


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _search(path: Path, images: ImagesRule) -> FoundVideos:
    """Return the videos of one input: the file itself, or what a folder holds."""
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if path.is_file():
        return FoundVideos(videos=(path,), notes=(), others="")
    try:
        return search_folder(path, images=images)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _sources_of(path: Path, found: FoundVideos, keep_suffix: bool) -> list[VideoSource]:
    if not found.videos:
        raise InputError(
            f"no video below {path}: looked for {', '.join(sorted(VIDEO_SUFFIXES))}, for other files whose "
            f"content is a video, and for folders of numbered images; {found.others or 'it holds no file'}"
        )
    if found.videos == (path,):
        return [VideoSource(path=path, video_id=_id_of(PurePath(path.name), keep_suffix=keep_suffix))]
    below = [(video, video.relative_to(path)) for video in found.videos]
    return [
        VideoSource(path=video, video_id=_id_of(shown, keep_suffix=keep_suffix), label=_label_of(shown))
        for video, shown in below
    ]


class ListedPaths:
    """The files that paths of a list name; of each folder the names are read once.

    Parameters
    ----------
    root : Path
        Relative paths count from it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: dict[str, dict[str, list[str]]] = {}

    def __contains__(self, path: str) -> bool:
        """Return whether a path as a list writes it, with or without its suffix, exists."""
        return self.find(self._root / path) is not None

    def find(self, path: Path) -> Path | None:
        """Return a path, or the one video of that name without its suffix (Kinetics ids, frame folders)."""
        if os.path.exists(path):  # False for a name that is too long for the system, or with a NUL
            return path
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return None
        found = [path.with_name(name) for name in self._videos(str(path.parent)).get(path.name, ())]
        found = [candidate for candidate in found if candidate.is_file()]
        return found[0] if len(found) == 1 else None

    def _videos(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder that have a video's suffix, by what is before it."""
        if folder not in self._named:
            named: dict[str, list[str]] = {}
            with contextlib.suppress(OSError, ValueError):
                for name in sorted(os.listdir(folder)):
                    stem, suffix = os.path.splitext(name)
                    if suffix in VIDEO_SUFFIXES:
                        named.setdefault(stem, []).append(name)
            self._named[folder] = named
        return self._named[folder]


def _located(entry: ListEntry, root: Path, listed: ListedPaths) -> tuple[Path, ListEntry]:
    """Return the file of an entry, and the entry, without its times if the file is cut to them already."""
    path = root / entry.path
    folders = [path.parent]
    if entry.label and len(PurePath(entry.path).parts) == 1:
        # Kinetics' lists have ids alone; its tools sort the files into folders of the classes.
        folders += [root / entry.label, root / entry.label.replace(" ", "_")]
    for folder in folders:
        whole = listed.find(folder / path.name)
        if whole is not None:
            return whole, entry
    times = _time_suffix(entry.start_seconds or 0.0) + _time_suffix(entry.end_seconds)
    for folder in folders if entry.end_seconds is not None else []:
        cut = listed.find(folder / (path.name + times))
        if cut is not None:
            return cut, dataclasses.replace(entry, start_seconds=None, end_seconds=None)
    return path, entry


def _below(path: Path, root: Path) -> PurePath:
    try:
        return path.relative_to(root)
    except ValueError:
        # Outside the root: the folder, which is the class, and the name.
        return PurePath(*path.parts[-2:])


def _id_of(shown: PurePath, *, keep_suffix: bool) -> str:
    name = os.sep.join(part for part in shown.parts if part not in ("/", "..", "."))
    suffix = shown.suffix
    if not keep_suffix and suffix.lower() in VIDEO_SUFFIXES:
        name = name.removesuffix(suffix)
    return encode_video_id(name)


def _label_of(shown: PurePath) -> str:
    return encode_video_id(shown.parent.name) if shown.parent.name else ""


def _time_suffix(seconds: float | None) -> str:
    if seconds is None:
        return "_end"
    return f"_{seconds:06.0f}" if float(seconds).is_integer() else f"_{seconds:010.3f}"
