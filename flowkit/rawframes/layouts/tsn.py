"""TSN's folders: img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg, from 1.

Source: yjxiong/dense_flow, `writeImages`, and temporal-segment-networks, `tools/build_of.py`.
"""

from __future__ import annotations

from flowkit.rawframes.layouts.layout import FLOW_XY, Layout

LAYOUT = Layout(name="tsn", form="images", templates=FLOW_XY, first_index=1)
