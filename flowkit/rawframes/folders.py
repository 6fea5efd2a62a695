"""Find the folders of raw frames below a folder, each a clip, and what looks like one and is none."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowkit.extraction.search import walk_folders
from flowkit.extraction.sources import VideoSource, check_ids
from flowkit.flow_files.arrays import NPY_SUFFIX, NPZ_SUFFIX
from flowkit.flow_files.formats import FORMATS
from flowkit.rawframes.frame_files import (
    FolderError,
    counted_names,
    is_zip,
    kind_zips,
    kinds_of,
    with_zipped_names,
    zip_members,
)
from flowkit.rawframes.inspection import counted
from flowkit.rawframes.layouts import IMPORT_LAYOUTS, LAYOUTS, readings
from flowkit.rawframes.layouts.layout import IMAGE_SUFFIXES, Kind, Layout
from flowkit.store.record import Failure, encode_video_id

TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".log")
_NUMBER_SUFFIXES = (*(suffix for suffix in FORMATS if suffix not in IMAGE_SUFFIXES), NPZ_SUFFIX)
_OTHER_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """The clips below a folder, what looks like a clip and is none, and what was not looked at."""

    sources: tuple[VideoSource, ...]
    failures: tuple[Failure, ...]
    ignored: tuple[str, ...] = ()
    """A line for each folder with files that are passed over, and for each archive of a folder beside it."""
    trees: Mapping[str, Mapping[Kind, Path]] = dataclasses.field(default_factory=dict)
    """Of a layout in trees, the folder of each kind of files by the clips' ids."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A folder or an archive: a clip, or what is wrong with it.

    `source` is None where it is no clip; `reason` is "" where it need not be one either.
    """

    path: Path
    video_id: str
    source: VideoSource | None = None
    reason: str = ""
    detail: str = ""


def find_folders(root: Path, layouts: Sequence[Layout]) -> Folders:
    """Return every folder and every zip below `root` with files of a layout, and those that look wrong.

    An id is the path below `root`, without .zip; the label is the name of the folder above. Folders whose
    name starts with a dot are skipped. Every other folder without folders in it, and every archive, is a
    clip, a failure or a line of what was passed over.

    Raises
    ------
    InputError
        Two folders have one id, or one id is a folder of another.
    """
    unreadable: list[OSError] = []
    walk = walk_folders(root, on_error=unreadable.append)
    found = [candidate for walked in walk for candidate in _candidates(root, walked, layouts)]
    folders = {c.video_id for c in found if c.source is not None and c.path.is_dir()}
    # The ids of folders with clips in them.
    above = {str(parent) for c in found if c.source is not None for parent in Path(c.video_id).parents}
    if above:
        above.add(next((c.video_id for c in found if c.path == root), ""))
    sources, ignored = [], []
    failures = [
        Failure(
            source=str(error.filename),
            reason="unreadable",
            detail=f"the folder cannot be read: {error.strerror}",
        )
        for error in unreadable
    ]
    for candidate in found:
        is_archive, name = not candidate.path.is_dir(), candidate.video_id
        shown = f"{candidate.path}: {candidate.detail}"
        if is_archive and (name in folders or name in above):
            ignored.append(f"{candidate.path}: the folder beside it is taken")
        elif candidate.source is not None:
            sources.append(candidate.source)
        elif not candidate.reason or (not is_archive and name in above):
            ignored.append(shown)
        else:
            failures.append(
                Failure(source=str(candidate.path), reason=candidate.reason, detail=candidate.detail)
            )
    return Folders(sources=tuple(check_ids(sources)), failures=tuple(failures), ignored=tuple(ignored))


def _candidates(
    root: Path, walked: tuple[Path, list[str], list[str]], layouts: Sequence[Layout]
) -> Iterator[_Candidate]:
    """Yield the archives in a folder that are clips of their own or none, and the folder itself."""
    folder, below, all_names = walked
    names = counted_names(all_names)
    shown = folder.relative_to(root)
    zips = [name for name in names if is_zip(name)]
    parts = kind_zips(folder, zips, with_zipped_names(layouts))
    others = [name for name in names if name.lower().endswith(_OTHER_ARCHIVES)]
    for name in sorted({*zips, *others} - {*parts}):
        yield _archive(folder / name, encode_video_id(str(shown / _stem(name))), layouts)
    plain = [name for name in names if name not in zips and name not in others]
    # Of the root the name, where nothing below it distinguishes it.
    video_id = encode_video_id(str(shown) if shown.parts else folder.resolve().name)
    if parts or kinds_of(plain, layouts):
        label = encode_video_id(shown.parent.name)
        yield _Candidate(
            path=folder,
            video_id=video_id,
            source=VideoSource(path=folder, video_id=video_id, label=label),
        )
    elif wrong := misfit(plain, layouts, is_empty=not names, has_folders=bool(below)):
        yield _Candidate(path=folder, video_id=video_id, reason=wrong[0], detail=wrong[1])


def _archive(path: Path, video_id: str, layouts: Sequence[Layout]) -> _Candidate:
    """Return an archive as a clip, or the reason why it is none."""
    wrong: tuple[str, str] | None = None
    if not is_zip(path.name):
        wrong = "unopenable", f"an archive {path.suffix} is not read, expected a folder or a .zip; unpack it"
    else:
        try:
            names = counted_names(zip_members(path))
            if kinds_of(names, with_zipped_names(layouts)):
                label = encode_video_id(path.parent.name) if "/" in video_id else ""
                source = VideoSource(path=path, video_id=video_id, label=label)
                return _Candidate(path=path, video_id=video_id, source=source)
            wrong = misfit(names, layouts, is_empty=not names, has_folders=False)
        except (FolderError, OSError) as error:
            wrong = getattr(error, "reason", "unopenable"), str(error)
    reason, detail = wrong or ("", "")
    return _Candidate(
        path=path, video_id=video_id, reason=reason, detail=f"{detail} (in a .zip)" if reason else detail
    )


def _stem(name: str) -> str:
    """Return an archive's name without its suffixes."""
    stem = Path(name).stem
    return Path(stem).stem if stem.lower().endswith(".tar") else stem


def misfit(
    names: Sequence[str], layouts: Sequence[Layout], *, is_empty: bool, has_folders: bool
) -> tuple[str, str] | None:
    """Return reason and detail of a folder without a clip: "" where all is text, None if it needs none."""
    if is_empty:
        return None if has_folders else ("empty_folder", "the folder is empty")
    odd = [name for name in names if not name.lower().endswith(TEXT_SUFFIXES)]
    if not odd:
        return None if has_folders or not names else ("", f"passed over: {counted(names)}")
    images = sorted(name for name in odd if name.lower().endswith(IMAGE_SUFFIXES))
    numbers = sorted(name for name in odd if name.lower().endswith(_NUMBER_SUFFIXES))
    if not images and not numbers:
        return "unknown_names", f"no images, expected some; there are {counted(odd)}"
    if numbers and not (images and layouts[0].form == "images"):
        return "unknown_names", (
            f"{counted(odd)} such as {numbers[0]}, which layout {layouts[0].name} does not read; "
            f"{_remedy_of_numbers(numbers[0])}"
        )
    templates = (template for layout in layouts for template in layout.templates.values())
    expected = ", ".join(sorted({template.name(1) for template in templates}))
    suffixes = ", ".join(IMAGE_SUFFIXES[1:])
    return "unknown_names", (
        f"{counted(odd)} such as {images[0]}, none called as {expected} (or {suffixes}); {_remedy(images)}"
    )


def _remedy_of_numbers(name: str) -> str:
    """Return the options that would read a file of flow as numbers, of such a name."""
    if name.lower().endswith(NPZ_SUFFIX):
        return "arrays of whole clips are --layout npy"
    template = _template_of(name)
    whole = ", and arrays of whole clips --layout npy" if name.lower().endswith(NPY_SUFFIX) else ""
    if template is None:
        return f"it has no number, so that its place is not known; rename it{whole}"
    return f"such names are --layout flo --template flo={template}{whole}"


def _template_of(name: str) -> str | None:
    """Return the template of names like this one, or None where it has no number."""
    digits = re.search(r"\d+(?=\D*\Z)", name)
    if digits is None:
        return None
    number = f"%0{len(digits[0])}d" if len(digits[0]) > 1 else "%d"
    return name[: digits.start()] + number + name[digits.end() :]


def _remedy(images: Sequence[str]) -> str:
    """Return the options that would read images of such names."""
    names = [name for name in IMPORT_LAYOUTS if _fits(images, name)]
    if names:
        shown = [name + _in_trees(name) for name in names]
        return f"they are called as in --layout {' or '.join(shown)}"
    pattern = _template_of(images[0])
    if pattern is None:
        return "they have no numbers, so that their order is not known; rename them"
    return (
        f"such names are --template img={pattern} (x=... of u, y=... of v); where frames, u and v have the "
        f"same names in trees of their own, --template x=u/{{id}}/{pattern} and so on"
    )


def _fits(images: Sequence[str], name: str) -> bool:
    """Return whether images are called as in a layout; frames alone are no reason to read flow as numbers."""
    kinds = kinds_of(images, readings(name))
    return bool(kinds) and (not LAYOUTS[name].of_numbers or kinds != ["img"])


def _in_trees(name: str) -> str:
    """Return the folders of a layout in trees, in brackets; "" of another."""
    layout = LAYOUTS[name]
    return f" (with the folders {', '.join(layout.folders)} in DIR)" if layout.in_trees else ""
