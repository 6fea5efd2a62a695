"""denseflow's folders: img_00000.jpg, flow_x_00000.jpg, flow_y_00000.jpg, from 0.

Flow of step 3 is flow_x_p3_00000.jpg. Backward flow is flow_x_m1_00001.jpg, numbered by the frame
that it starts from, the later one of the pair.

Source: open-mmlab/denseflow, `writeImages` and `writeFlowImages` (`_p<step>`, `_m<step>`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Self

from flowkit.rawframes.layouts.layout import FLOW_XY, IMAGE_SUFFIXES, Layout, templates

_FLOW_NAME = re.compile(rf"flow_x(?:_([pm])(\d+))?_\d+(?i:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DenseflowLayout(Layout):
    """Names with the step and the direction in them."""

    def stepped(self, step: int, *, backward: bool) -> Self:
        """Return the layout with the names of a step other than 1, or of backward flow."""
        if step == 1 and not backward:
            return self
        word = f"m{step}" if backward else f"p{step}"
        names = templates(x=f"flow_x_{word}_%05d.jpg", y=f"flow_y_{word}_%05d.jpg")
        return dataclasses.replace(
            self, templates={**self.templates, **names}, flow_offset=step if backward else 0
        )

    def with_backward(self, step: int) -> Self:
        """Return the layout with the names of backward flow too."""
        names = templates(bx=f"flow_x_m{step}_%05d.jpg", by=f"flow_y_m{step}_%05d.jpg")
        return dataclasses.replace(self, templates={**self.templates, **names}, backward_offset=step)

    def steps(self, names: Iterable[str]) -> tuple[set[int], set[int]]:
        """Return the steps of forward and of backward flow among file names."""
        forward: set[int] = set()
        backward: set[int] = set()
        for name in names:
            if match := _FLOW_NAME.fullmatch(name):
                (backward if match[1] == "m" else forward).add(int(match[2] or 1))
        return forward, backward


LAYOUT = DenseflowLayout(name="denseflow", form="images", templates=FLOW_XY)
