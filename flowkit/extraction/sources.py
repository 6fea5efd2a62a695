"""Files, folders and lists → the videos to extract, each with one id and one label.

Inputs are files, folders (recursive), list files, or "-" for a list on standard input.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from flowkit.errors import InputError
from flowkit.extraction.lists import ListEntry
from flowkit.store.record import check_id_set, check_video_id, encode_video_id
from flowkit.video.reader import VIDEO_SUFFIXES, is_image_folder


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
    """

    path: Path
    video_id: str
    label: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def times(self) -> tuple[float | None, float | None]:
        """Start and end in seconds, which identify the part."""
        return (self.start_seconds, self.end_seconds)


def as_sources(sources: str | Path | VideoSource | Iterable[str | Path | VideoSource]) -> list[VideoSource]:
    """Return videos as sources, those of paths found as `find_sources` does.

    Raises
    ------
    InputError
        A path does not exist or holds no video; two videos have one id.
    """
    given = [sources] if isinstance(sources, str | Path | VideoSource) else list(sources)
    ready = [source for source in given if isinstance(source, VideoSource)]
    paths = [source for source in given if not isinstance(source, VideoSource)]
    return check_ids([*ready, *find_sources(paths)]) if paths else ready


def find_sources(
    inputs: str | Path | Iterable[str | Path], *, keep_suffix: bool = False
) -> list[VideoSource]:
    """Return the videos that files and folders hold, sorted by id.

    Parameters
    ----------
    inputs : str or Path, or an iterable of them
        Files (whatever their suffix) and folders. A folder is searched recursively for the
        suffixes of `flowkit.video.reader.VIDEO_SUFFIXES` and for folders of numbered images;
        symbolic links are followed, each real folder once.
    keep_suffix : bool
        Keep the file's suffix in its id.

    Raises
    ------
    InputError
        An input does not exist or holds no video; two inputs have one id.
    """
    names = [inputs] if isinstance(inputs, str | Path) else inputs
    sources = [source for name in names for source in _sources_of(Path(name), keep_suffix)]
    return check_ids(sources)


def sources_of_list(
    entries: Iterable[ListEntry], *, root: Path, keep_suffix: bool = False
) -> list[VideoSource]:
    """Return the videos that a list names, sorted by id.

    A relative path counts from `root`. A path that does not exist stays in the list: it alone
    fails, in the ledger, not the whole run. A path without its suffix finds the one video of
    that name. Two parts of one file get ids with their times, as in Kinetics
    (`name_000010_000020`).

    Raises
    ------
    InputError
        Two entries have one id.
    """
    sources = []
    for entry in entries:
        path = _with_suffix(root / entry.path)
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
        if _is_other(source, other):
            raise InputError(
                f"two inputs have the id {source.video_id!r}: {_shown(other)} and {_shown(source)}; "
                "rename one, give their common parent folder, or use --keep-suffix"
            )
    check_id_set({name: str(source.path) for name, source in by_id.items()})
    for name in by_id:
        check_video_id(name)
    return [by_id[name] for name in sorted(by_id, key=_natural)]


def _is_other(source: VideoSource, other: VideoSource) -> bool:
    same_file = os.path.realpath(source.path) == os.path.realpath(other.path)
    return not same_file or source.times != other.times or source.label != other.label


def _shown(source: VideoSource) -> str:
    return f"{source.path} (label {source.label!r})" if source.label else str(source.path)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _sources_of(path: Path, keep_suffix: bool) -> list[VideoSource]:
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if path.is_file() or is_image_folder(path):
        return [VideoSource(path=path, video_id=_id_of(PurePath(path.name), keep_suffix=keep_suffix))]
    found = [
        VideoSource(
            path=video,
            video_id=_id_of(video.relative_to(path), keep_suffix=keep_suffix),
            label=_label_of(video.relative_to(path)),
        )
        for video in _walk(path)
    ]
    if not found:
        raise InputError(
            f"no video below {path}: looked for {', '.join(sorted(VIDEO_SUFFIXES))} and for folders "
            "of numbered images; name a file itself if its suffix is another"
        )
    return found


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield folders as `os.walk` does; one that is reached twice through links is entered once.

    Folders come in the order of their names, without hidden ones; clearing the second item keeps the walk
    out of a folder.
    """
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), below, names


def _walk(root: Path) -> Iterator[Path]:
    """Yield videos below `root`."""
    for folder, below, files in walk_folders(root):
        if folder != root and is_image_folder(folder):
            below.clear()
            yield folder
            continue
        for name in sorted(files):
            # Files that start with a dot are AppleDouble remains and editors' leftovers.
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(folder, name)


def _with_suffix(path: Path) -> Path:
    """Return the one video of a path without its suffix (Kinetics ids, frame folders)."""
    if path.exists() or path.suffix.lower() in VIDEO_SUFFIXES:
        return path
    found = [path.with_name(path.name + suffix) for suffix in sorted(VIDEO_SUFFIXES)]
    found = [candidate for candidate in found if candidate.is_file()]
    return found[0] if len(found) == 1 else path


def _below(path: Path, root: Path) -> PurePath:
    try:
        return path.relative_to(root)
    except ValueError:
        # Outside the root: the folder, which is the class, and the name.
        return PurePath(*path.parts[-2:])


def _id_of(shown: PurePath, *, keep_suffix: bool) -> str:
    name = os.sep.join(part for part in shown.parts if part not in ("/", "..", "."))
    if not keep_suffix and PurePath(name).suffix.lower() in VIDEO_SUFFIXES:
        name = str(PurePath(name).with_suffix(""))
    return encode_video_id(name)


def _label_of(shown: PurePath) -> str:
    return encode_video_id(shown.parent.name) if shown.parent.name else ""


def _time_suffix(seconds: float | None) -> str:
    if seconds is None:
        return "_end"
    return f"_{seconds:06.0f}" if float(seconds).is_integer() else f"_{seconds:010.3f}"
