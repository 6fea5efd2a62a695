"""A layout of raw frames: the file names of frames and flow, their folders, and the first numbers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_at_least

Kind: TypeAlias = Literal["img", "x", "y", "bx", "by", "flo"]
"""Frames; u and v of the flow; u and v of backward flow; flow in one file."""
Form: TypeAlias = Literal["images", "fields", "npy", "tar", "streams"]

KINDS: tuple[Kind, ...] = ("img", "x", "y", "bx", "by", "flo")
BACKWARD_KINDS: tuple[Kind, ...] = ("bx", "by")
BACKWARD_FIELD = "flow_backward"
"""The field of a store that leads from frame k + step to frame k."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of images that a template of one of them reads, the preferred ones first."""
CLIP_FOLDER = "{id}"
"""The folder of a template without folders: the clip's own."""

_NUMBER = re.compile(r"%0?\d*d")
_MAX_NAME_BYTES = 200


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NameTemplate:
    """A file name with a number in it, as printf writes it: `img_%05d.jpg`, or `u/{id}/frame%06d.jpg`.

    Folders count from the root of all clips, and `{id}` stands for the clip's id. A name alone lies in
    the clip's folder, `{id}`.

    Raises
    ------
    InvalidParameterError
        There is not exactly one number in the name or not exactly one `{id}` in the folders, or the path
        could lead out of the root.
    """

    pattern: str

    def __post_init__(self) -> None:
        pattern, name = self.pattern, self._name
        rest = _NUMBER.sub("", name, count=1)
        if rest == name or "%" in rest or "%" in self.folder:
            raise InvalidParameterError(
                f"a file name template has exactly one number such as %05d and no other %, got {pattern!r}"
            )
        parts = [*self.folder.split("/"), name]
        if any(not part or part.startswith(".") or "\0" in part for part in parts) or (
            len(pattern.encode()) > _MAX_NAME_BYTES
        ):
            raise InvalidParameterError(
                f"a file name template is a relative path, no part of it starts with a dot, got {pattern!r}"
            )
        if parts[:-1].count(CLIP_FOLDER) != 1 or "{" in pattern.replace(CLIP_FOLDER, "", 1):
            raise InvalidParameterError(
                f"a file name template is a plain file name, or has folders of which exactly one is {{id}}, "
                f"such as u/{{id}}/frame%06d.jpg; got {pattern!r}"
            )

    @property
    def _name(self) -> str:
        return self.pattern.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder of a clip's files, with `{id}` for the id."""
        return self.pattern.rpartition("/")[0] or CLIP_FOLDER

    def name(self, number: int) -> str:
        """Return the file name of a number, without folders."""
        return self._name % number

    def numbers(self, names: Iterable[str]) -> dict[int, str]:
        """Return the names that fit this template, by their numbers in order.

        A template of an image fits those of the other `IMAGE_SUFFIXES` too, in either case; of two
        files of one number that of its own suffix counts.
        """
        before, after = _NUMBER.split(self._name, maxsplit=1)
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
    """One way to lay out clips; a layout whose names depend on more than a number is a subclass.

    Parameters
    ----------
    name : str
        Its name, a key of `LAYOUTS`.
    form : {"images", "fields", "npy", "tar", "streams"}
        Kind of its files: images of u and v, a file of numbers for each field, or arrays of a clip; "tar" and
        "streams" are samples in tar shards.
    templates : mapping of str to NameTemplate
        File names by kind: `img`, and `x` and `y` or `flo`; `bx` and `by` of backward flow.
    first_index : int
        Number of the first frame, and of the first flow field but for `flow_offset`, >= 0.
    flow_offset, backward_offset : int
        Added to the numbers of flow fields, and of backward ones.
    last_field_extra : bool
        Clips may have as many fields as frames; the last one then has no second frame.
    """

    name: str
    form: Form
    templates: Mapping[Kind, NameTemplate]
    first_index: int = 0
    flow_offset: int = 0
    backward_offset: int = 0
    last_field_extra: bool = False

    def __post_init__(self) -> None:
        for offset in (0, self.flow_offset, self.backward_offset):
            check_at_least("the first number", self.first_index + offset, 0)
        probes = [(template.folder, template.name(0)) for template in self.templates.values()]
        if len(set(probes)) < len(probes):
            twice = next(probe for probe in probes if probes.count(probe) > 1)
            raise InvalidParameterError(
                f"two kinds of files would share the name {twice[1]!r} and the like; where they lie in trees "
                "of their own, give their folders too, such as --template x=u/{id}/frame%06d.jpg"
            )

    @property
    def in_shards(self) -> bool:
        """True if clips are samples in tar shards, not folders."""
        return self.form in ("tar", "streams")

    @property
    def of_numbers(self) -> bool:
        """True if flow is numbers, of any method and range, not images over a bound."""
        return self.form in ("fields", "npy")

    @property
    def flow_kinds(self) -> tuple[Kind, ...]:
        """The kinds of files that make a field of forward flow: one, or those of u and v."""
        return ("flo",) if "flo" in self.templates else ("x", "y")

    @property
    def folders(self) -> dict[str, tuple[Kind, ...]]:
        """The folders of a clip, with `{id}` for its id, and the kinds of files in each."""
        found: dict[str, tuple[Kind, ...]] = {}
        for kind, template in self.templates.items():
            found[template.folder] = (*found.get(template.folder, ()), kind)
        return found or {CLIP_FOLDER: ()}

    @property
    def in_trees(self) -> bool:
        """True if a clip's files are in several folders, or in another than its own."""
        return list(self.folders) != [CLIP_FOLDER]

    def file_name(self, kind: Kind, index: int) -> str:
        """Return the name of frame or flow field `index`, counted from 0, without folders."""
        return self.templates[kind].name(self.first_number(kind) + index)

    def first_number(self, kind: Kind) -> int:
        """Return the number of the first frame, or of the first flow field."""
        if kind in BACKWARD_KINDS:
            return self.first_index + self.backward_offset
        return self.first_index + (0 if kind == "img" else self.flow_offset)

    def stepped(self, step: int, *, backward: bool) -> Layout:
        """Return the layout of flow of a step, or of backward flow, where its names say so."""
        return self

    def with_backward(self, step: int) -> Layout:
        """Return the layout with the names of backward flow beside those of forward flow, if it has any."""
        return self

    def steps(self, names: Iterable[str]) -> tuple[set[int], set[int]]:
        """Return the steps of forward and of backward flow in file names; none where names have no step."""
        return set(), set()

    def variants(self, *, named: Collection[str], numbered: bool) -> tuple[Layout, ...]:
        """Return the variants that a folder may have; the first that fits is taken.

        Parameters
        ----------
        named : collection of str
            Kinds whose templates were given by the user.
        numbered : bool
            First numbers were given by the user.
        """
        return (self,)

    def from_either(self, *, numbered: bool) -> tuple[Layout, ...]:
        """Return the layout with numbers from its own first one, and from the other of 0 and 1."""
        if numbered:
            return (self,)
        return self, dataclasses.replace(self, first_index=1 - self.first_index)


def templates(**patterns: str) -> dict[Kind, NameTemplate]:
    """Return templates by kind: `templates(img="img_%05d.jpg", ...)`."""
    return {kind: NameTemplate(pattern=patterns[kind]) for kind in KINDS if kind in patterns}


FLOW_XY = templates(img="img_%05d.jpg", x="flow_x_%05d.jpg", y="flow_y_%05d.jpg")
"""The names of TSN and denseflow."""
