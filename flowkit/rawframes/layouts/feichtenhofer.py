"""UCF101 and HMDB51 as Feichtenhofer shares them: tvl1_flow/{u,v}/<clip>/ and jpegs_256/<clip>/, from 1.

In each folder are frame000001.jpg and on; a clip of N frames has N or N - 1 fields.

Source: feichtenhofer/twostreamfusion, README (the archives ucf101_jpegs_256 and ucf101_tvl1_flow) and
`cnn_ucf101_setup_data`.
"""

from __future__ import annotations

from flowkit.rawframes.layouts.layout import Layout, templates

LAYOUT = Layout(
    name="feichtenhofer",
    form="images",
    templates=templates(
        img="jpegs_256/{id}/frame%06d.jpg",
        x="tvl1_flow/u/{id}/frame%06d.jpg",
        y="tvl1_flow/v/{id}/frame%06d.jpg",
    ),
    first_index=1,
    last_field_extra=True,
)
