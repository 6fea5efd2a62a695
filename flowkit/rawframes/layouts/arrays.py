"""Flow as numbers: Middlebury's .flo files (img_00000.jpg, flow_00000.flo, from 0), or an array a clip.

The arrays are frames.npy, uint8 (n, H, W, 3), and flow.npy, float32 (n, 2, H, W), px.
"""

from __future__ import annotations

from flowkit.rawframes.layouts.layout import Layout, templates

FLO = Layout(name="flo", form="flo", templates=templates(img="img_%05d.jpg", flo="flow_%05d.flo"))
NPY = Layout(name="npy", form="npy", templates={})
