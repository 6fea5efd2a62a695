"""The layouts of raw frames in other projects: a module each, and a line in `LAYOUTS`.

In most of them each clip has a folder, at `<root>/<id>`; in some frames and flow lie in trees of their own.

Flow images are quantised alike in all of them (`flowkit.quantize.quantize_u8`), and encoded as
grey JPEG of quality 95, OpenCV's default, which these tools leave as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from flowkit.errors import InvalidParameterError
from flowkit.flow_files.formats import FORMATS, format_of
from flowkit.rawframes.layouts import arrays, denseflow, feichtenhofer, mmaction2, trees, tsn, webdataset
from flowkit.rawframes.layouts.layout import BACKWARD_KINDS, Layout, NameTemplate
from flowkit.validate import check_choice, check_that

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        tsn.LAYOUT,
        denseflow.LAYOUT,
        mmaction2.LAYOUT,
        feichtenhofer.LAYOUT,
        trees.IXY,
        trees.RGB_FLOW,
        arrays.FLO,
        arrays.KITTI,
        arrays.NPY,
        webdataset.STREAMS,
        webdataset.IMAGES,
    )
}
IMPORT_LAYOUTS = tuple(name for name, layout in LAYOUTS.items() if not layout.in_shards)


def make_layout(
    name: str,
    *,
    templates: Iterable[str] = (),
    first_index: int | None = None,
    first_flow_index: int | None = None,
    step: int = 1,
    backward: bool = False,
    both: bool = False,
) -> Layout:
    """Return a layout, with other names and numbers where given.

    Parameters
    ----------
    name : str
        One of `LAYOUTS`.
    templates : iterable of str
        `KIND=NAME`, such as `x=flow_x_%05d.jpg`; kinds are img, x, y and flo.
    first_index : int, optional
        Number of the first frame instead of the layout's own; flow moves with it.
    first_flow_index : int, optional
        Number of the first flow field, where it is not that which goes with the frames.
    step : int
        Frames between the two of a pair; denseflow writes it into its names.
    backward : bool
        The flow leads from frame k + step to k; denseflow has names for it.
    both : bool
        Flow of both directions.

    Raises
    ------
    InvalidParameterError
        Unknown layout, a kind that it does not have, or a template that is no file name.
    """
    check_choice("layout", name, LAYOUTS)
    layout = LAYOUTS[name].stepped(step, backward=backward)
    if both:
        layout = layout.with_backward(step)
        named = BACKWARD_KINDS[0] in layout.templates
        check_that(
            "layout",
            name,
            named,
            "denseflow for flow of both directions",
            remedy="only it has names for both",
        )
    return _changed(layout, templates, first_index, first_flow_index)


def readings(
    name: str,
    *,
    templates: Iterable[str] = (),
    first_index: int | None = None,
    first_flow_index: int | None = None,
    step: int = 1,
) -> tuple[Layout, ...]:
    """Return the variants of a layout that a folder may have; the first that fits is taken.

    Parameters and errors are those of `make_layout`; names of backward flow are among the templates.
    """
    check_choice("layout", name, LAYOUTS)
    layout = LAYOUTS[name].stepped(step, backward=False).with_backward(step)
    templates = tuple(templates)
    changed = _changed(layout, templates, first_index, first_flow_index)
    return changed.variants(
        named={text.partition("=")[0] for text in templates},
        numbered=first_index is not None or first_flow_index is not None,
    )


def _changed(
    layout: Layout, templates: Iterable[str], first_index: int | None, first_flow_index: int | None
) -> Layout:
    """Return a layout with the user's names and numbers."""
    changed = dict(layout.templates)
    for text in templates:
        kind, _, pattern = text.partition("=")
        if kind not in changed:
            kinds = ", ".join(changed) or "none"
            raise InvalidParameterError(
                f"Invalid template ({text!r}). Layout {layout.name} has the kinds: {kinds}"
            )
        if kind == "flo" and format_of(pattern) is None:
            raise InvalidParameterError(
                f"Invalid template ({text!r}). Files of one field are {', '.join(FORMATS)}, "
                "such as flo=%06d.flo"
            )
        changed[kind] = NameTemplate(pattern=pattern)
    first = layout.first_index if first_index is None else first_index
    offset = layout.flow_offset if first_flow_index is None else first_flow_index - first
    return dataclasses.replace(layout, templates=changed, first_index=first, flow_offset=offset)
