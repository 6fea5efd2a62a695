"""The layouts of raw frames in other projects: file names of frames and flow, and the first index.

Every layout has one folder a clip, at `<root>/<id>`; `webdataset` has one sample a clip in tar
shards instead.

``tsn``         img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg, from 1
``denseflow``   img_00000.jpg, flow_x_00000.jpg, flow_y_00000.jpg, from 0; of step 3 flow_x_p3_00000.jpg,
                of backward flow flow_x_m1_00001.jpg, which has the number of the frame it starts from
``mmaction2``   img_00001.jpg, x_00001.jpg, y_00001.jpg, from 1: its loader's defaults
``flo``         img_00000.jpg and flow_00000.flo, from 0
``npy``         frames.npy, uint8 (n, H, W, 3), and flow.npy, float32 (n, 2, H, W)
``webdataset``  a sample `<id>` with img_00000.jpg, flow_x_00000.jpg, flow_y_00000.jpg, json and cls

Flow images are quantised alike in all of them (`flowkit.quantize.quantize_u8`), and encoded as
grey JPEG of quality 95, OpenCV's default, which these tools leave as it is.

Sources: yjxiong/dense_flow, `writeImages`, and temporal-segment-networks, `tools/build_of.py`
(prefixes img, flow_x, flow_y; numbers from 1); open-mmlab/denseflow, `writeImages` and
`writeFlowImages` (from 0; `_p<step>`, `_m<step>`); open-mmlab/mmaction2, `RawframeDataset`
(img_{:05}.jpg, start_index 1) and `RawFrameDecode` with its flow configurations' template
{}_{:05d}.jpg, formatted with x and y. mmaction2's data guides show flow_x_00001.jpg instead: that is
`--template x=flow_x_%05d.jpg --template y=flow_y_%05d.jpg`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_at_least, check_choice

Kind: TypeAlias = Literal["img", "x", "y", "flo"]
Form: TypeAlias = Literal["images", "flo", "npy", "tar"]

_NUMBER = re.compile(r"%0?\d*d")
_MAX_NAME_BYTES = 200

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of images that a template of one of them reads, the preferred ones first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NameTemplate:
    """A file name with a number in it, as printf writes it: `img_%05d.jpg`.

    Raises
    ------
    InvalidParameterError
        There is not exactly one number, or the name could be outside a clip's folder.
    """

    pattern: str

    def __post_init__(self) -> None:
        pattern = self.pattern
        rest = _NUMBER.sub("", pattern, count=1)
        if rest == pattern or "%" in rest:
            raise InvalidParameterError(
                f"a file name template has exactly one number such as %05d and no other %, got {pattern!r}"
            )
        if re.search(r"[/\0]", pattern) or pattern.startswith(".") or len(pattern.encode()) > _MAX_NAME_BYTES:
            raise InvalidParameterError(
                f"a file name template is a plain file name without / and no leading dot, got {pattern!r}"
            )

    def name(self, number: int) -> str:
        """Return the file name of a number."""
        return self.pattern % number

    def numbers(self, names: Iterable[str]) -> dict[int, str]:
        """Return the names that fit this template, by their numbers in order.

        A template of an image fits those of the other `IMAGE_SUFFIXES` too, in either case; of two
        files of one number that of its own suffix counts.
        """
        before, after = _NUMBER.split(self.pattern, maxsplit=1)
        own = next((suffix for suffix in IMAGE_SUFFIXES if after.lower().endswith(suffix)), "")
        suffixes = "|".join(map(re.escape, IMAGE_SUFFIXES)) if own else ""
        stem = re.escape(after[: len(after) - len(own)])
        fits = re.compile(f"{re.escape(before)}([0-9]+){stem}(?i:({suffixes}))", re.DOTALL)
        found: dict[int, tuple[int, str]] = {}
        for name in names:
            if not (match := fits.fullmatch(name)):
                continue
            number, suffix = int(match[1]), match[2]
            # img_1.jpg is none of img_%05d.jpg: no loader would find it.
            if self.name(number) != name[: len(name) - len(suffix)] + after[len(after) - len(own) :]:
                continue
            preferred = 0 if name == self.name(number) else 1 + IMAGE_SUFFIXES.index(suffix.lower())
            found[number] = min(found.get(number, (preferred, name)), (preferred, name))
        return {number: found[number][1] for number in sorted(found)}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to lay out clips.

    Parameters
    ----------
    name : str
        Its name, a key of `LAYOUTS`.
    form : {"images", "flo", "npy", "tar"}
        Kind of its files.
    templates : mapping of str to NameTemplate
        File names by kind: `img`, and `x` and `y` or `flo`.
    first_index : int
        Number of the first frame, and of the first flow field but for `flow_offset`, >= 0.
    flow_offset : int
        Added to the numbers of flow fields.
    """

    name: str
    form: Form
    templates: Mapping[Kind, NameTemplate]
    first_index: int = 0
    flow_offset: int = 0

    def __post_init__(self) -> None:
        for first in (self.first_index, self.first_index + self.flow_offset):
            check_at_least("the first number", first, 0)
        probes = [template.name(0) for template in self.templates.values()]
        if len(set(probes)) < len(probes):
            raise InvalidParameterError(f"two kinds of files would share the name {probes[0]!r} and the like")

    def file_name(self, kind: Kind, index: int) -> str:
        """Return the name of frame or flow field `index`, counted from 0."""
        return self.templates[kind].name(self.first_number(kind) + index)

    def first_number(self, kind: Kind) -> int:
        """Return the number of the first frame, or of the first flow field."""
        return self.first_index + (0 if kind == "img" else self.flow_offset)


def _templates(**patterns: str) -> dict[Kind, NameTemplate]:
    names: dict[Kind, NameTemplate] = {}
    for kind in ("img", "x", "y", "flo"):
        if kind in patterns:
            names[kind] = NameTemplate(pattern=patterns[kind])
    return names


_FLOW_XY = _templates(img="img_%05d.jpg", x="flow_x_%05d.jpg", y="flow_y_%05d.jpg")

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(name="tsn", form="images", templates=_FLOW_XY, first_index=1),
        Layout(name="denseflow", form="images", templates=_FLOW_XY),
        Layout(
            name="mmaction2",
            form="images",
            templates=_templates(img="img_%05d.jpg", x="x_%05d.jpg", y="y_%05d.jpg"),
            first_index=1,
        ),
        Layout(name="flo", form="flo", templates=_templates(img="img_%05d.jpg", flo="flow_%05d.flo")),
        Layout(name="npy", form="npy", templates={}),
        Layout(name="webdataset", form="tar", templates=_FLOW_XY),
    )
}
IMPORT_LAYOUTS = tuple(name for name, layout in LAYOUTS.items() if layout.form == "images")


def make_layout(
    name: str,
    *,
    templates: Iterable[str] = (),
    first_index: int | None = None,
    step: int = 1,
    backward: bool = False,
) -> Layout:
    """Return a layout, with other names and numbers where given.

    Parameters
    ----------
    name : str
        One of `LAYOUTS`.
    templates : iterable of str
        `KIND=NAME`, such as `x=flow_x_%05d.jpg`; kinds are img, x, y and flo.
    first_index : int, optional
        Instead of the layout's own.
    step : int
        Frames between the two of a pair; denseflow writes it into its names.
    backward : bool
        The flow leads from frame k + step to k; denseflow has names for it.

    Raises
    ------
    InvalidParameterError
        Unknown layout, a kind that it does not have, or a template that is no file name.
    """
    check_choice("layout", name, LAYOUTS)
    layout = LAYOUTS[name]
    if name == "denseflow" and (step > 1 or backward):
        layout = _stepped(layout, step, backward)
    changed = dict(layout.templates)
    for text in templates:
        kind, _, pattern = text.partition("=")
        if kind not in changed:
            kinds = ", ".join(changed) or "none"
            raise InvalidParameterError(f"Invalid template ({text!r}). Layout {name} has the kinds: {kinds}")
        changed[kind] = NameTemplate(pattern=pattern)
    index = layout.first_index if first_index is None else first_index
    return dataclasses.replace(layout, templates=changed, first_index=index)


def _stepped(layout: Layout, step: int, backward: bool) -> Layout:
    """Return denseflow's names for a step other than 1."""
    word = f"m{step}" if backward else f"p{step}"
    names = _templates(img="img_%05d.jpg", x=f"flow_x_{word}_%05d.jpg", y=f"flow_y_{word}_%05d.jpg")
    # Backward flow is numbered by the frame that it starts from, the later one of the pair.
    return dataclasses.replace(layout, templates=names, flow_offset=step if backward else 0)
