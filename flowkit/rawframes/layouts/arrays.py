"""Flow as numbers: a file a field (Middlebury's .flo, KITTI's PNG), or an array a clip.

Files are img_00000.jpg with flow_00000.flo or flow_00000.png, written from 0, read from 0 or 1; a template of
another suffix is another format, `flow_files.formats.FORMATS`. The arrays are frames.npy, uint8 (n, H, W, 3),
and flow.npy, float32 (n, 2, H, W), px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from flowkit.rawframes.layouts.layout import Layout, templates


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FieldsLayout(Layout):
    """A file a field, counted from 0 or 1."""

    def variants(self, *, named: Collection[str], numbered: bool) -> tuple[Layout, ...]:
        """Return the layout from its own first number, and from the other of 0 and 1."""
        return self.from_either(numbered=numbered)


FLO = FieldsLayout(name="flo", form="fields", templates=templates(img="img_%05d.jpg", flo="flow_%05d.flo"))
KITTI = FieldsLayout(
    name="kitti", form="fields", templates=templates(img="img_%05d.jpg", flo="flow_%05d.png")
)
NPY = Layout(name="npy", form="npy", templates={})
