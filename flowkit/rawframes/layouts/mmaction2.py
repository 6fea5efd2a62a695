"""mmaction2's folders: img_00001.jpg, x_00001.jpg, y_00001.jpg, from 1: its loader's defaults.

Source: open-mmlab/mmaction2, `RawframeDataset` (img_{:05}.jpg, start_index 1) and `RawFrameDecode` with
its flow configurations' template {}_{:05d}.jpg, formatted with x and y. mmaction2's data guides show
flow_x_00001.jpg instead: that is `--template x=flow_x_%05d.jpg --template y=flow_y_%05d.jpg`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from flowkit.rawframes.layouts.layout import FLOW_XY, Layout, templates


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mmaction2Layout(Layout):
    """Folders of two sets of names for flow, counted from 0 or 1."""

    def variants(self, *, named: Collection[str], numbered: bool) -> tuple[Layout, ...]:
        """Return the variants that a folder may have.

        There are two sets of names for flow, the loader's and the guides', and numbers start from 0 or 1
        as the tools that made them did: denseflow from 0, mmaction2's own script's frames from 1.
        """
        guides = {kind: name for kind, name in FLOW_XY.items() if kind not in ("img", *named)}
        both = [self, dataclasses.replace(self, templates={**self.templates, **guides})]
        if not numbered:
            from_0 = [dataclasses.replace(layout, first_index=0) for layout in both]
            both += [*from_0, *(dataclasses.replace(layout, flow_offset=-1) for layout in both)]
        return tuple(both)


LAYOUT = Mmaction2Layout(
    name="mmaction2",
    form="images",
    templates=templates(img="img_%05d.jpg", x="x_%05d.jpg", y="y_%05d.jpg"),
    first_index=1,
)
