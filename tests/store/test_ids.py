from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InputError, InvalidParameterError
from flowkit.store.ids import MAX_ID_BYTES, check_id_set, check_video_id, encode_video_id


@pytest.mark.parametrize(
    "video_id", ["a", "HandStand/clip_07", "ü/ß.mp4", "a b", "...", "a/..b", ".hidden", "a."]
)
def test_paths_are_ids(video_id: str) -> None:
    assert check_video_id(video_id) == video_id


@pytest.mark.parametrize(
    "video_id",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a\0b",
        "\udcff",
        "x" * (MAX_ID_BYTES + 1),
    ],
)
def test_what_no_store_can_hold_is_no_id(video_id: str) -> None:
    with pytest.raises(InvalidParameterError, match="video id"):
        check_video_id(video_id)


def test_bytes_that_are_no_text_are_percent_encoded() -> None:
    assert encode_video_id(b"a/\xff%") == "a/%FF%25"
    assert encode_video_id("a/\udcff%") == "a/%FF%25"
    assert encode_video_id("100%") == "100%"


@given(st.binary(max_size=30))
def test_encoded_paths_are_valid_text(path: bytes) -> None:
    assert isinstance(encode_video_id(path).encode("utf-8"), bytes)


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_can_be_encoded(text: str) -> None:
    assert isinstance(encode_video_id(text).encode("utf-8"), bytes)


def test_an_id_that_is_a_folder_of_another_is_refused_by_both_names() -> None:
    with pytest.raises(InputError, match=r"a\.mp4.*a/flow\.mp4"):
        check_id_set({"a/flow": "a/flow.mp4", "a": "a.mp4"})
    check_id_set({"a/flow": "1", "a b": "2", "ab": "3"})
