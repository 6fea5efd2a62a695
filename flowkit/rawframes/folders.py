"""Find the folders of raw frames below a folder, and check that each is complete."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from flowkit.extraction.search import walk_folders
from flowkit.extraction.sources import VideoSource, check_ids
from flowkit.rawframes.frame_files import (
    KINDS,
    FolderError,
    FrameFile,
    clip_files,
    counted_names,
    is_zip,
    kind_zips,
    kinds_of,
    with_zipped_names,
    zip_members,
)
from flowkit.rawframes.layouts import IMAGE_SUFFIXES, Kind, Layout, make_layout
from flowkit.store.record import Failure, encode_video_id

Pairing: TypeAlias = Literal["first", "second"]

_NAMED = 5
_TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".log")
_OTHER_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """The clips below a folder, what looks like a clip and is none, and what was not looked at."""

    sources: tuple[VideoSource, ...]
    failures: tuple[Failure, ...]
    ignored: tuple[str, ...] = ()
    """A line for each folder with files that are passed over, and for each archive of a folder beside it."""


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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipFiles:
    """The files of one clip, in order.

    Flow field k, a pair of files x and y, leads from frame k to frame k + step; `frames` is empty
    where they are not wanted. `note` names what of the folder is left out.
    """

    frames: tuple[FrameFile, ...]
    flow: tuple[tuple[FrameFile, FrameFile], ...]
    note: str = ""


def readings(
    name: str, *, templates: Sequence[str] = (), first_index: int | None = None, step: int = 1
) -> tuple[Layout, ...]:
    """Return the variants of a layout that a folder may have; the first that fits is taken.

    mmaction2 has two sets of names for flow, its loader's and its guides', and numbers start from
    0 or 1 as the tools that made them did: denseflow from 0, its own script's frames from 1. The
    other layouts have one variant.
    """
    plain = make_layout(name, templates=templates, first_index=first_index, step=step)
    if name != "mmaction2":
        return (plain,)
    asked = {text.partition("=")[0] for text in templates}
    guides = [f"{kind}=flow_{kind}_%05d.jpg" for kind in ("x", "y") if kind not in asked]
    both = [plain, make_layout(name, templates=[*templates, *guides], first_index=first_index)]
    if first_index is None:
        from_0 = [dataclasses.replace(layout, first_index=0) for layout in both]
        both += [*from_0, *(dataclasses.replace(layout, flow_offset=-1) for layout in both)]
    return tuple(both)


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
    elif wrong := _misfit(plain, layouts, is_empty=not names, has_folders=bool(below)):
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
            wrong = _misfit(names, layouts, is_empty=not names, has_folders=False)
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


def _misfit(
    names: Sequence[str], layouts: Iterable[Layout], *, is_empty: bool, has_folders: bool
) -> tuple[str, str] | None:
    """Return reason and detail of a folder without a clip: "" where all is text, None if it needs none."""
    if is_empty:
        return None if has_folders else ("empty_folder", "the folder is empty")
    odd = [name for name in names if not name.lower().endswith(_TEXT_SUFFIXES)]
    if not odd:
        return None if has_folders or not names else ("", f"passed over: {_counted(names)}")
    images = sorted(name for name in odd if name.lower().endswith(IMAGE_SUFFIXES))
    if not images:
        return "unknown_names", f"no images, expected some; there are {_counted(odd)}"
    templates = (template for layout in layouts for template in layout.templates.values())
    expected = ", ".join(sorted({template.name(1) for template in templates}))
    return "unknown_names", (
        f"{_counted(odd)} such as {images[0]}, none called as {expected}; "
        "choose another --layout or give --template"
    )


def _counted(names: Sequence[str]) -> str:
    """Return the number of files of each suffix, the most frequent first: `30 .png, 1 .txt`."""
    suffixes = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(_NAMED))


def inspect(
    folder: Path, layouts: Sequence[Layout], *, step: int, frames: bool, pairing: Pairing = "first"
) -> ClipFiles:
    """Return the files of a clip's folder.

    Parameters
    ----------
    folder : Path
        The folder, or the zip of it.
    layouts : sequence of Layout
        From `readings`.
    step : int
        Frames between the two of a pair.
    frames : bool
        Frames are wanted; without them any number of flow fields is complete.
    pairing : {"first", "second"}
        Frame k is the first or the second one of the pair of flow field k.

    Raises
    ------
    FolderError
        Files are missing: gaps in the numbers, unequal counts of x and y, counts that do not fit; or a
        zip cannot be read.
    OSError
        The folder cannot be read.

    Notes
    -----
    TSN's own extractor writes the second frame of each pair beside its flow, so that there are as
    many images as fields and the first field's first frame is in no file. With pairing "second",
    field k + 1 leads from image k to k + 1, and the first field is left out. A folder that lost
    its last image looks the same, so that this is never guessed.
    Source: yjxiong/dense_flow, `calcDenseFlowGPU`.
    """
    files = clip_files(folder, with_zipped_names(layouts))
    names, zipped = list(files), any(file.member for file in files.values())
    layout = _reading(names, with_zipped_names(layouts) if zipped else layouts)
    x, y = (_run(names, layout, kind) for kind in ("x", "y"))
    if not x and not y:
        expected, there = layout.file_name("x", 0), _counted(names) + (" in .zip" if zipped else "")
        raise FolderError("no_flow", f"no flow, expected {expected} and on; there are {there}")
    if len(x) != len(y):
        raise FolderError("uneven_flow", f"{len(x)} flow images of x and {len(y)} of y")
    flow = tuple((files[a], files[b]) for a, b in zip(x, y, strict=True))
    if not frames:
        return ClipFiles(frames=(), flow=flow)
    images = tuple(files[name] for name in _run(names, layout, "img"))
    note = ""
    if pairing == "second":
        flow, note = flow[1:], f"{x[0]} is left out: its first frame is not in the folder"
    if not flow or len(images) != len(flow) + step:
        raise FolderError(*_uneven(len(images), len(x), step, pairing))
    return ClipFiles(frames=images, flow=flow, note=note)


def _uneven(images: int, flow: int, step: int, pairing: Pairing) -> tuple[str, str]:
    if not images:
        return "no_frames", "no frames; --frames none imports its flow alone"
    expected = flow + step if pairing == "first" else flow
    hint = ""
    if pairing == "first" and step == 1 and images == flow:
        hint = "; folders of TSN's own extractor are so: --pairing second, if none was lost here"
    return "uneven_counts", (
        f"{images} frames and {flow} flow fields, expected {expected} frames for {flow} fields at step "
        f"{step} with pairing {pairing}{hint}"
    )


def _reading(names: Sequence[str], layouts: Sequence[Layout]) -> Layout:
    """Return the layout that fits the first files of most kinds, the earliest among equals."""

    def fit(layout: Layout) -> int:
        first = {kind: min(layout.templates[kind].numbers(names), default=None) for kind in KINDS}
        return sum(
            2 if number == layout.first_number(kind) else number is not None for kind, number in first.items()
        )

    return max(layouts, key=fit) if len(layouts) > 1 else layouts[0]


def _gaps(first: int, numbers: Iterable[int]) -> Iterator[int]:
    """Yield the numbers from `first` on that are missing before the last one; there may be billions."""
    following = first
    for number in sorted(number for number in numbers if number >= first):
        yield from range(following, number)
        following = number + 1


def _run(names: Sequence[str], layout: Layout, kind: Kind) -> list[str]:
    """Return the files of a kind in order, from its first number on without a gap."""
    numbers = layout.templates[kind].numbers(names)
    if not numbers:
        return []
    first = layout.first_number(kind)
    missing = list(itertools.islice(_gaps(first, numbers), _NAMED + 1))
    before = [number for number in numbers if number < first]
    if missing or before:
        shown = [layout.templates[kind].name(number) for number in (missing or before)[:_NAMED]]
        more = " and more" if len(missing or before) > _NAMED else ""
        verb = "lacks" if missing else f"starts before {first} with"
        raise FolderError(
            "missing_files",
            f"{verb} {', '.join(shown)}{more} ({len(numbers)} {kind} images, {min(numbers)} to "
            f"{max(numbers)}); a layout that starts at another number needs --first-index",
        )
    return list(numbers.values())
