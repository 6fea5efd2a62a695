"""Splits of a store, and its clips for a training loop.

`splits`, `split_sources` and `resolve` assign videos to training and test; `sampling` draws segments as
TSN does; `reader` reads them as NumPy arrays; `transforms` resizes, crops and mirrors arrays and tensors;
`windows` cuts clips into windows, and `i3d` reads them in I3D's form;
`torch` is for PyTorch, which is imported only when one of its names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowkit._lazy import lazy_names
from flowkit.datasets.i3d import I3DItem, I3DWindows, i3d_flow, i3d_frames
from flowkit.datasets.reader import ArraySpec, ClipBatch, ClipSample, ClipSamples, SampleKey
from flowkit.datasets.resolve import SplitRequest, resolve_splits, splits_of_labels
from flowkit.datasets.sampling import Sampling, Short
from flowkit.datasets.split_sources import (
    groups_by_pattern,
    groups_from_csv,
    k_fold,
    labels_from_csv,
    leave_one_out,
    parse_classes,
    split_from_csv,
    split_from_hmdb51,
    split_from_ucf101,
)
from flowkit.datasets.splits import (
    BalanceRow,
    Split,
    SplitKind,
    check_split,
    class_balance,
    list_splits,
    read_split,
    write_split,
)
from flowkit.datasets.transforms import Box, Size, transform_flow, transform_frames
from flowkit.store.codecs.codec import FlowForm

if TYPE_CHECKING:
    from flowkit.datasets.torch import ClipDataset, ClipSampler, collate_clips, collate_padded

__all__ = [
    "ArraySpec",
    "BalanceRow",
    "Box",
    "ClipBatch",
    "ClipDataset",
    "ClipSample",
    "ClipSampler",
    "ClipSamples",
    "FlowForm",
    "I3DItem",
    "I3DWindows",
    "SampleKey",
    "Sampling",
    "Short",
    "Size",
    "Split",
    "SplitKind",
    "SplitRequest",
    "check_split",
    "class_balance",
    "collate_clips",
    "collate_padded",
    "groups_by_pattern",
    "groups_from_csv",
    "i3d_flow",
    "i3d_frames",
    "k_fold",
    "labels_from_csv",
    "leave_one_out",
    "list_splits",
    "parse_classes",
    "read_split",
    "resolve_splits",
    "split_from_csv",
    "split_from_hmdb51",
    "split_from_ucf101",
    "splits_of_labels",
    "transform_flow",
    "transform_frames",
    "write_split",
]

_TORCH = ("ClipDataset", "ClipSampler", "collate_clips", "collate_padded")
_HOMES = {name: "flowkit.datasets.torch" for name in _TORCH}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
