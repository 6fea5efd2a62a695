"""Frames and flow in folders of their own: `<clip>/{i,x,y}/00001.jpg`, or rgb/<clip>/ beside flow/<clip>/.

Both are read from number 0 or 1, and written from 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from flowkit.rawframes.layouts.layout import Layout, templates


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TreesLayout(Layout):
    """Folders counted from 0 or 1."""

    def variants(self, *, named: Collection[str], numbered: bool) -> tuple[Layout, ...]:
        """Return the layout from its own first number, and from the other of 0 and 1."""
        return self.from_either(numbered=numbered)


IXY = TreesLayout(
    name="ixy",
    form="images",
    templates=templates(img="{id}/i/%05d.jpg", x="{id}/x/%05d.jpg", y="{id}/y/%05d.jpg"),
    first_index=1,
    last_field_extra=True,
)
RGB_FLOW = TreesLayout(
    name="rgb-flow",
    form="images",
    templates=templates(
        img="rgb/{id}/img_%05d.jpg", x="flow/{id}/flow_x_%05d.jpg", y="flow/{id}/flow_y_%05d.jpg"
    ),
    first_index=1,
    last_field_extra=True,
)
