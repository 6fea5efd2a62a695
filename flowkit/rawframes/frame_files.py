"""The files of one clip: in a folder, in a zip of the whole clip, or in a folder with a zip for each kind.

dense_flow writes zips by default: `img.zip`, `flow_x.zip` and `flow_y.zip` in a clip's folder,
with img_00001.jpg, x_00001.jpg and y_00001.jpg and on. Others pack a whole folder as `<clip>.zip`.

Source: yjxiong/dense_flow, `writeZipFile` (names and the number 1 of the first file).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flowkit import jpeg
from flowkit.errors import JpegError, VideoError
from flowkit.extraction.search import SYSTEM_FOLDERS
from flowkit.rawframes.layouts.layout import Kind, Layout, NameTemplate, templates

ZIP_SUFFIX = ".zip"
_LARGEST_MEMBER_BYTES = 1 << 28
_DESKTOP_FILES = ("thumbs.db", "desktop.ini")
_ZIPPED_NAMES: Mapping[Kind, NameTemplate] = templates(img="img_%05d.jpg", x="x_%05d.jpg", y="y_%05d.jpg")


class FolderError(VideoError, ValueError):
    """A folder does not fit its layout; `reason` is its word in the failure ledger."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class FrameFile:
    """One file of a clip: at `path`, or the member of this name in the zip at `path`."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    def read_bytes(self) -> bytes:
        """Return the contents.

        Raises
        ------
        FolderError
            It is no regular file, or absurdly large; the zip or its member is damaged, encrypted or so.
        OSError
            The file cannot be read.
        """
        if not self.member:
            try:
                return jpeg.read_file(self.path)
            except JpegError as error:
                raise FolderError("decode_error", str(error)) from error
        with _zip_errors(self.path):
            archive = _archive(self.path, _state(self.path))
            if archive.getinfo(self.member).file_size > _LARGEST_MEMBER_BYTES:
                raise FolderError("decode_error", f"{self} is larger than {_LARGEST_MEMBER_BYTES >> 20} MiB")
            return archive.read(self.member)

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayItem:
    """One field or frame of the array of a clip at `path`, counted from 0."""

    path: Path
    index: int

    @property
    def name(self) -> str:
        """The file's own name, and the number."""
        return f"{self.path.name}[{self.index}]"

    def __str__(self) -> str:
        return f"{self.path}[{self.index}]"


def clip_files(path: Path, layouts: Sequence[Layout]) -> dict[str, FrameFile]:
    """Return the files of a clip by name: those of its folder and of the zips of single kinds in it.

    Raises
    ------
    FolderError
        `path` is a zip that cannot be read or that holds several folders.
    OSError
        The folder cannot be read.
    """
    if is_zip(path.name) and path.is_file():
        return zip_members(path)
    names = os.listdir(path)
    zips = kind_zips(path, names, layouts)
    members = {name: file for zipped in zips for name, file in zip_members(path / zipped).items()}
    return members | {name: FrameFile(path / name) for name in names}


def is_zip(name: str) -> bool:
    """Return whether a file's name is that of a zip, and not a hidden one."""
    return name.lower().endswith(ZIP_SUFFIX) and not name.startswith(".")


def zip_members(path: Path) -> dict[str, FrameFile]:
    """Return the files in a zip of one folder, by name.

    Raises
    ------
    FolderError
        The zip cannot be read, or holds several folders.
    """
    with _zip_errors(path):
        members = [
            member.filename for member in _archive(path, _state(path)).infolist() if not member.is_dir()
        ]
    files = [name for name in members if not any(map(_is_system, name.split("/")))]
    folders = sorted({str(PurePosixPath(name).parent) for name in files})
    if len(folders) > 1:
        raise FolderError(
            "several_folders",
            f"the .zip holds files of {len(folders)} folders, such as {folders[0]} and {folders[1]}, "
            "expected one clip; unpack it",
        )
    return {PurePosixPath(name).name: FrameFile(path, name) for name in files}


def kind_zips(folder: Path, names: Iterable[str], layouts: Sequence[Layout]) -> list[str]:
    """Return the zips among a folder's files that hold one kind of files each: dense_flow's.

    Several zips of one kind are clips of their own.
    """
    by_kind: dict[Kind, list[str]] = {}
    for name in sorted(filter(is_zip, names)):
        # A zip that cannot be read is reported by itself, in `zip_members`.
        with contextlib.suppress(FolderError, OSError):
            kinds = kinds_of(list(zip_members(folder / name)), layouts)
            if len(kinds) == 1:
                by_kind.setdefault(kinds[0], []).append(name)
    if any(len(zips) > 1 for zips in by_kind.values()):
        return []
    return [name for zips in by_kind.values() for name in zips]


def kinds_of(names: Sequence[str], layouts: Sequence[Layout]) -> list[Kind]:
    """Return the kinds of which there are files among these names."""
    kinds = layouts[0].templates
    return [kind for kind in kinds if any(layout.templates[kind].numbers(names) for layout in layouts)]


def with_zipped_names(layouts: Sequence[Layout]) -> tuple[Layout, ...]:
    """Return the layouts, and the one of dense_flow's zips: their members have names of their own."""
    own = {kind: name for kind, name in _ZIPPED_NAMES.items() if kind in layouts[0].templates}
    return (*layouts, dataclasses.replace(layouts[0], templates={**layouts[0].templates, **own}))


def counted_names(names: Iterable[str]) -> list[str]:
    """Return the names of files that count: no hidden ones, none that a desktop leaves."""
    return [name for name in names if not _is_system(name)]


def _is_system(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a desktop or a file server leaves."""
    return name.startswith(".") or name.lower() in _DESKTOP_FILES or name in SYSTEM_FOLDERS


@functools.lru_cache(maxsize=4)
def _archive(path: Path, _: tuple[int, int]) -> zipfile.ZipFile:
    """Open a zip; it is kept for its next member, and opened again if it was replaced."""
    return zipfile.ZipFile(path)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """Raise FolderError for all that is wrong with a zip."""
    try:
        yield
    # An encrypted member is a RuntimeError, an unknown compression a NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, FolderError):
            raise
        raise FolderError("unopenable", f"the .zip {path} cannot be read: {error}") from error
