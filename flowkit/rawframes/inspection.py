"""The files of one clip in their order, checked to be complete."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from flowkit.rawframes.frame_files import (
    ArrayItem,
    FolderError,
    FrameFile,
    clip_files,
    with_zipped_names,
)
from flowkit.rawframes.layouts.layout import Kind, Layout

Pairing: TypeAlias = Literal["first", "second"]
FrameSource: TypeAlias = FrameFile | ArrayItem
FieldSource: TypeAlias = tuple[FrameFile, FrameFile] | tuple[FrameSource]
"""The images of u and v of a flow field, or where it is as numbers."""

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FrameRange:
    """The frames of a folder that are one clip: `count` from frame `first` on, counted from 0."""

    first: int
    count: int

    @property
    def stop(self) -> int:
        """Number of the frame behind the last one."""
        return self.first + self.count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipFiles:
    """The files of one clip, in order.

    Flow field k, a pair of files x and y or one file, leads from frame k to frame k + step, and field k of
    `backward` from frame k + step to frame k; `frames` is empty where they are not wanted, `backward` where
    there is none. `note` names what of the folder is left out.
    """

    frames: tuple[FrameSource, ...]
    flow: tuple[FieldSource, ...]
    backward: tuple[FieldSource, ...] = ()
    note: str = ""

    def part(self, wanted: FrameRange, step: int) -> ClipFiles:
        """Return the files of some of the frames, and of the flow between them.

        Raises
        ------
        FolderError
            The clip is shorter, or the range holds no flow field.
        """
        n_frames = len(self.flow) + step
        if wanted.count <= step or wanted.stop > n_frames:
            raise FolderError(
                "false_count",
                f"the list wants {wanted.count} frames from number {wanted.first} on, counted from 0; the "
                f"clip has {n_frames}, and a range needs more than {step}; if these columns are others, "
                "name them with --list-columns",
            )
        flow = slice(wanted.first, wanted.stop - step)
        frames = self.frames[wanted.first : wanted.stop]
        return dataclasses.replace(self, frames=frames, flow=self.flow[flow], backward=self.backward[flow])


def inspect(
    folder: Path,
    layouts: Sequence[Layout],
    *,
    step: int,
    frames: bool,
    pairing: Pairing = "first",
    backward: bool = False,
    trees: Mapping[Kind, Path] | None = None,
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
    backward : bool
        Backward flow is wanted too.
    trees : mapping of str to Path, optional
        The folder of each kind of files, where they are several.

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
    listing = _Listing.of(folder, layouts, trees or {})
    flow = listing.fields()
    if not flow:
        raise FolderError("no_flow", listing.without_flow())
    reverse = listing.pairs("bx", "by") if backward else ()
    if backward and len(reverse) != len(flow):
        expected = listing.layout.file_name("bx", 0)
        raise FolderError(
            "uneven_counts",
            f"{len(flow)} flow fields and {len(reverse)} backward ones, expected {expected} and on, as many "
            "as forward; --no-backward leaves them out",
        )
    if not frames:
        return ClipFiles(frames=(), flow=flow, backward=reverse)
    images = listing.run("img")
    return paired(images, flow, reverse, layout=listing.layout, step=step, pairing=pairing)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    """The files of a clip by kind and name, and the layout that they have."""

    layout: Layout
    files: Mapping[Kind, Mapping[str, FrameFile]]

    @classmethod
    def of(cls, folder: Path, layouts: Sequence[Layout], trees: Mapping[Kind, Path]) -> _Listing:
        """List a clip's folders, and choose the variant of the layout that fits."""
        places = trees or dict.fromkeys(layouts[0].templates, folder)
        listed = {path: clip_files(path, with_zipped_names(layouts)) for path in {*places.values()}}
        files = {kind: listed[path] for kind, path in places.items()}
        zipped = any(file.member for found in listed.values() for file in found.values())
        tried = with_zipped_names(layouts) if zipped else layouts
        return cls(layout=_reading(files, tried), files=files)

    def numbers(self, kind: Kind) -> dict[int, str]:
        """Return the file names of a kind by their numbers, in order."""
        return self.layout.templates[kind].numbers(self.files[kind]) if kind in self.files else {}

    def fields(self) -> tuple[FieldSource, ...]:
        """Return the files of each field of forward flow, in order."""
        if self.layout.flow_kinds == ("flo",):
            return tuple((file,) for file in self.run("flo"))
        return self.pairs("x", "y")

    def pairs(self, x_kind: Kind, y_kind: Kind) -> tuple[FieldSource, ...]:
        """Return the pairs of files of two kinds, in order."""
        x, y = self.run(x_kind), self.run(y_kind)
        if len(x) != len(y):
            raise FolderError("uneven_flow", f"{len(x)} flow images of {x_kind} and {len(y)} of {y_kind}")
        return tuple(zip(x, y, strict=True))

    def run(self, kind: Kind) -> list[FrameFile]:
        """Return the files of a kind in order, from its first number on without a gap."""
        numbers = self.numbers(kind)
        if not numbers:
            return []
        first = self.layout.first_number(kind)
        missing = list(itertools.islice(_gaps(first, numbers), _NAMED + 1))
        before = [number for number in numbers if number < first]
        if missing or before:
            shown = [self.layout.templates[kind].name(n) for n in (missing or before)[:_NAMED]]
            more = " and more" if len(missing or before) > _NAMED else ""
            word = "files" if kind == "flo" else "images"
            verb = "lacks" if missing else f"starts before {first} with"
            raise FolderError(
                "missing_files",
                f"{verb} {', '.join(shown)}{more} ({len(numbers)} {kind} {word}, {min(numbers)} to "
                f"{max(numbers)}){self._number_options()}",
            )
        return [self.files[kind][name] for name in numbers.values()]

    def _number_options(self) -> str:
        """Return the options with which frames and flow would start where they do; "" if they do already."""
        layout = self.layout
        flow_kind = layout.flow_kinds[0]
        img, x = (min(self.numbers(kind), default=None) for kind in ("img", flow_kind))
        options = []
        if img is not None and img != layout.first_number("img"):
            options.append(f"--first-index {img}")
        moved = 0 if img is None else img - layout.first_number("img")
        flow_first = layout.first_number(flow_kind) + moved
        if x is not None and x != flow_first:
            options.append(f"--first-flow-index {x}")
        return f"; if no file was lost here, the numbers are those of {' '.join(options)}" if options else ""

    def without_flow(self) -> str:
        """Return a sentence on a clip without flow."""
        names = sorted({name for found in self.files.values() for name in found})
        zipped = any(file.member for found in self.files.values() for file in found.values())
        expected = self.layout.file_name(self.layout.flow_kinds[0], 0)
        there = f"{counted(names)}{' in .zip' if zipped else ''}"
        forward, backward = self.layout.steps(names)
        hint = ""
        if forward:
            hint = f"; the names are those of --step {' or --step '.join(map(str, sorted(forward)))}"
        elif backward:
            hint = (
                f"; backward flow alone (step {', '.join(map(str, sorted(backward)))}) is stored beside "
                "forward flow only, as the field flow_backward: put both into one folder, or give the places "
                "of both with --backward and --template x=forward/{id}/..., bx=backward/{id}/... and so on"
            )
        return f"no flow, expected {expected} and on; there are {there}{hint}"


def paired(
    images: Sequence[FrameSource],
    flow: tuple[FieldSource, ...],
    backward: tuple[FieldSource, ...] = (),
    *,
    layout: Layout,
    step: int,
    pairing: Pairing,
) -> ClipFiles:
    """Return frames and flow with the fields left out that lack one of their frames.

    Raises
    ------
    FolderError
        Their counts do not fit each other; parameters as `inspect`'s.
    """
    note, fields = "", slice(None)
    if pairing == "second":
        fields, note = slice(1, None), f"{flow[0][0].name} is left out: its first frame is not in the folder"
    elif layout.last_field_extra and len(images) == len(flow) + step - 1:
        fields, note = slice(-1), f"{flow[-1][0].name} is left out: its second frame is not in the folder"
    kept = flow[fields]
    if not kept or len(images) != len(kept) + step:
        raise FolderError(*_uneven(len(images), len(flow), step, pairing))
    return ClipFiles(frames=tuple(images), flow=kept, backward=backward[fields], note=note)


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


def _reading(files: Mapping[Kind, Mapping[str, FrameFile]], layouts: Sequence[Layout]) -> Layout:
    """Return the layout that fits the first files of most kinds, the earliest among equals."""

    def fit(layout: Layout) -> int:
        first = {
            kind: min(template.numbers(files.get(kind, ())), default=None)
            for kind, template in layout.templates.items()
        }
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


def counted(names: Iterable[str]) -> str:
    """Return the number of files of each suffix, the most frequent first: `30 .png, 1 .txt`."""
    suffixes = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(_NAMED))
