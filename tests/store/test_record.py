from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InputError, InvalidParameterError, StoreFormatError
from flowkit.store.record import (
    ADDED_ATTRIBUTES,
    MAX_ID_BYTES,
    RECORD_TYPES,
    DecodeStatus,
    Failure,
    FlowRange,
    SolverRecord,
    SourceFingerprint,
    SourceShape,
    StoredVideoShape,
    TimeRange,
    VideoRecord,
    check_id_set,
    check_video_id,
    encode_video_id,
)

from .conftest import make_record


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


# Format 1.0: the attributes of a video's group and the columns of the index, in order.
FORMAT = {
    "label": str,
    "width": int,
    "height": int,
    "source_width": int,
    "source_height": int,
    "rotation": int,
    "fps": float,
    "n_frames": int,
    "n_flow": int,
    "backend": str,
    "device": str,
    "opencv_version": str,
    "status": str,
    "status_reason": str,
    "skipped_frames": int,
    "pts_repaired": int,
    "source_name": str,
    "source_bytes": int,
    "source_mtime_ns": int,
    "source_sha256": str,
    "clipped_fraction": float,
    "flow_max_px": float,
    "deviations": str,
    "start_seconds": float,
    "end_seconds": float,
    "mirrored": int,
    "pixel_aspect": float,
    "interlaced": int,
}


def test_attributes_are_those_of_the_format_in_its_order() -> None:
    assert list(RECORD_TYPES.items()) == list(FORMAT.items())
    assert list(make_record("a").to_attrs()) == list(FORMAT)
    assert {field.name for field in dataclasses.fields(VideoRecord)} == {"video_id", *FORMAT}


def test_record_of_groups_has_every_field_of_each() -> None:
    stored = StoredVideoShape(width=20, height=12, fps=25.0, n_frames=4, n_flow=3)
    source = SourceFingerprint(name="a.avi", bytes=9, mtime_ns=8, sha256="ab")
    shape = SourceShape(source_width=40, source_height=24, rotation=90)
    solver = SolverRecord(backend="opencv", device="a CPU", opencv_version="5", deviations="x")
    decoding = DecodeStatus(status="truncated", status_reason="y", skipped_frames=1, pts_repaired=2)
    reach = FlowRange(clipped_fraction=0.5, flow_max_px=7.0)
    times = TimeRange(start_seconds=1.0, end_seconds=2.0)
    record = VideoRecord.of(
        "a",
        label="b",
        stored=stored,
        source=source,
        source_shape=shape,
        solver=solver,
        decoding=decoding,
        flow_range=reach,
        times=times,
    )
    assert (record.video_id, record.label, record.fingerprint) == ("a", "b", source)
    for group in (stored, shape, solver, decoding, reach, times):
        for name, value in dataclasses.asdict(group).items():
            assert getattr(record, name) == value
    with_defaults = VideoRecord.of("a", stored=stored, source=source, source_shape=shape, solver=solver)
    assert (with_defaults.label, with_defaults.status, with_defaults.flow_max_px) == ("", "ok", 0.0)
    assert (with_defaults.start_seconds, with_defaults.end_seconds) == (None, None)


def test_record_survives_as_attributes() -> None:
    record = make_record("a/b", start_seconds=1.5, end_seconds=None, status="truncated", deviations="x; y")
    attrs = record.to_attrs()
    assert VideoRecord.from_attrs("a/b", attrs) == record
    assert {type(value) for value in attrs.values()} == {str, int, float}


def test_attributes_that_older_stores_lack_have_their_value() -> None:
    attrs = make_record("a").to_attrs()
    for name in ADDED_ATTRIBUTES:
        del attrs[name]
    assert VideoRecord.from_attrs("a", attrs) == make_record("a")


def test_record_without_an_attribute_is_refused() -> None:
    attrs = make_record("a").to_attrs()
    del attrs["n_flow"]
    with pytest.raises(StoreFormatError, match="n_flow"):
        VideoRecord.from_attrs("a", attrs)


@pytest.mark.parametrize("change", [{"status": "fine"}, {"width": 0}, {"height": 70_000}, {"n_frames": -1}])
def test_impossible_records_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        make_record("a", **change)


def test_fingerprints_match_by_size_and_time_or_else_by_digest() -> None:
    first = SourceFingerprint(name="a", bytes=5, mtime_ns=7, sha256="ab")
    assert first.matches(dataclasses.replace(first, sha256="", name="b"))
    assert first.matches(dataclasses.replace(first, mtime_ns=8))
    assert not first.matches(dataclasses.replace(first, mtime_ns=8, sha256=""))
    assert not first.matches(dataclasses.replace(first, bytes=6))


def test_failure_holds_any_message() -> None:
    failure = Failure(source="bad\udcff", reason="unopenable", detail="a\0b\n")
    assert failure.source == "bad%FF"
    assert json.loads(failure.to_json()) == {"source": "bad%FF", "reason": "unopenable", "detail": "a b\n"}
