from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreCorruptError, StoreFormatError
from flowkit.store import checked_hdf5
from tests.store.conftest import MakeStore


def drop_proofs(group: h5py.Group) -> None:
    for name in [name for name in group.attrs if name.endswith("_crc32")]:
        del group.attrs[name]


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda _: None, True),
        (drop_proofs, True),  # as in format 1.0
        (lambda group: group.attrs.update(x_scale_crc32=1), True),  # there is no x_scale
        (lambda group: group.attrs.update(flow_crc32=1), True),  # no array that has a proof there
        (lambda group: group["pts"].write_direct(group["pts"][()] + 1), False),
        (lambda group: group.attrs.update(pts_crc32=group.attrs["pts_crc32"] + 1), False),
        (lambda group: group.attrs.update(pts_crc32="1"), False),
    ],
)
def test_proofs_hold_where_each_array_fits_its_crc(
    make_store: MakeStore, change: Callable[[h5py.Group], object], holds: bool
) -> None:
    with h5py.File(make_store("a"), "r+") as file:
        change(file["videos/a"])
        assert checked_hdf5.VideoArrays(file["videos/a"]).proofs_hold() is holds


def elsewhere(group: h5py.Group) -> None:
    with h5py.File(Path(group.file.filename).with_name("other.h5"), "w") as other:
        other["x"] = np.zeros((2, 2))
    group["x_scale"] = h5py.ExternalLink("other.h5", "/x")


def unfolds(group: h5py.Group) -> None:
    group.create_dataset("x_scale", data=np.zeros(1 << 20), compression="gzip")


@pytest.mark.parametrize("make", [elsewhere, unfolds])
def test_an_array_of_a_proof_is_no_link_and_cannot_unfold(
    make_store: MakeStore, make: Callable[[h5py.Group], None]
) -> None:
    with h5py.File(make_store("a"), "r+") as file:
        make(file["videos/a"])
        file["videos/a"].attrs["x_scale_crc32"] = 1
        with pytest.raises((StoreFormatError, StoreCorruptError)):
            checked_hdf5.VideoArrays(file["videos/a"]).proofs_hold()
