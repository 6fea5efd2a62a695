"""Find the folders of raw frames below a folder, and check that each is complete."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from flowkit.errors import VideoError
from flowkit.extraction.search import walk_folders
from flowkit.extraction.sources import VideoSource, check_ids
from flowkit.rawframes.layouts import Kind, Layout, NameTemplate, make_layout
from flowkit.store.record import Failure, encode_video_id

Pairing: TypeAlias = Literal["first", "second"]

_IMAGE_SUFFIXES = (".jpg", ".jpeg")
_NAMED = 5
_KINDS: tuple[Kind, ...] = ("img", "x", "y")


class FolderError(VideoError, ValueError):
    """A folder does not fit its layout; `reason` is its word in the failure ledger."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """The clips below a folder, and the folders that look like clips and are none."""

    sources: tuple[VideoSource, ...]
    failures: tuple[Failure, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipFiles:
    """The files of one clip, in order.

    Flow field k, a pair of files x and y, leads from frame k to frame k + step; `frames` is empty
    where they are not wanted. `note` names what of the folder is left out.
    """

    frames: tuple[Path, ...]
    flow: tuple[tuple[Path, Path], ...]
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
    """Return every folder below `root` with files of a layout, and those that look wrong.

    An id is the path below `root`; the label is the name of the folder above. Folders whose name
    starts with a dot are skipped.

    Raises
    ------
    InputError
        Two folders have one id, or one id is a folder of another.
    """
    templates = {template for layout in layouts for template in layout.templates.values()}
    sources, failures = [], []
    for folder, below, names in walk_folders(root):
        shown = folder.relative_to(root)
        if any(template.numbers(names) for template in templates):
            name = encode_video_id(str(shown) if shown.parts else folder.resolve().name)
            sources.append(VideoSource(path=folder, video_id=name, label=encode_video_id(shown.parent.name)))
        elif not below and (wrong := _misfit(names, templates)):
            failures.append(Failure(source=str(folder), reason=wrong[0], detail=wrong[1]))
    return Folders(sources=tuple(check_ids(sources)), failures=tuple(failures))


def _misfit(names: Sequence[str], templates: Iterable[NameTemplate]) -> tuple[str, str] | None:
    """Return reason and detail of a folder that looks like a clip and is none; else None."""
    if not names:
        return "empty_folder", "the folder is empty"
    images = sorted(name for name in names if name.lower().endswith(_IMAGE_SUFFIXES))
    if not images:
        return None
    expected = ", ".join(sorted({template.name(1) for template in templates}))
    return "unknown_names", (
        f"{len(images)} images such as {images[0]}, none called as {expected}; "
        "choose another --layout or give --template"
    )


def inspect(
    folder: Path, layouts: Sequence[Layout], *, step: int, frames: bool, pairing: Pairing = "first"
) -> ClipFiles:
    """Return the files of a clip's folder.

    Parameters
    ----------
    folder : Path
        The folder.
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
        Files are missing: gaps in the numbers, unequal counts of x and y, counts that do not fit.
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
    names = os.listdir(folder)
    layout = _reading(names, layouts)
    x, y = (_run(names, layout, kind) for kind in ("x", "y"))
    if not x and not y:
        raise FolderError("no_flow", f"no flow, expected {layout.file_name('x', 0)} and on")
    if len(x) != len(y):
        raise FolderError("uneven_flow", f"{len(x)} flow images of x and {len(y)} of y")
    flow = tuple((folder / a, folder / b) for a, b in zip(x, y, strict=True))
    if not frames:
        return ClipFiles(frames=(), flow=flow)
    images = tuple(folder / name for name in _run(names, layout, "img"))
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
        first = {kind: min(layout.templates[kind].numbers(names), default=None) for kind in _KINDS}
        return sum(
            2 if number == layout.first_number(kind) else number is not None for kind, number in first.items()
        )

    return max(layouts, key=fit) if len(layouts) > 1 else layouts[0]


def _run(names: Sequence[str], layout: Layout, kind: Kind) -> list[str]:
    """Return the files of a kind in order, from its first number on without a gap."""
    numbers = layout.templates[kind].numbers(names)
    if not numbers:
        return []
    first = layout.first_number(kind)
    missing = [number for number in range(first, max(numbers)) if number not in numbers]
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
