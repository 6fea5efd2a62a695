"""webdataset's tar shards: a sample `<id>` a clip, of fixed fields, or with a field for each image.

`STREAMS` has frames.mjpeg, flow.mjpeg, json and cls in each sample (see `flowkit.rawframes.tar`), so that
webdataset and Hugging Face's datasets read clips of unequal length. `IMAGES` has img_00000.jpg,
flow_x_00000.jpg and flow_y_00000.jpg, one field for each image, json, and cls where there is a class; its
index is that of wids, which webdataset had before version 1.
"""

from __future__ import annotations

from flowkit.rawframes.layouts.layout import FLOW_XY, Layout

STREAMS = Layout(name="webdataset", form="streams", templates={})
IMAGES = Layout(name="webdataset-images", form="tar", templates=FLOW_XY)
