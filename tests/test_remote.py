"""Addresses of fsspec as text; reading them is tested with the stores and inputs that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowkit.remote import RemotePath, locate


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://user:secret@host/x.h5", "ftp://user:***@host/x.h5"),
        ("ftp://user:se@cret@host/x.h5", "ftp://user:***@host/x.h5"),
        ("https://host/a:b@c/x.h5", "https://host/a:b@c/x.h5"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    address = RemotePath(url)
    assert str(address) == shown
    assert repr(address) == f"RemotePath({shown!r})"
    assert address.url == url


def test_a_path_of_this_machine_is_a_path() -> None:
    assert locate("a/out.h5") == Path("a/out.h5")
    assert locate("s3://bucket/out.h5") == RemotePath("s3://bucket/out.h5")
