from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError, StoreFormatError
from flowkit.store.schema import (
    Failure,
    FieldOptions,
    SourceFingerprint,
    StoreOptions,
    VideoRecord,
    field_names,
)

from .conftest import make_options, make_record

TWO_FIELDS = (
    FieldOptions(tvl1_preset="fast", tvl1_params='{"tau": 0.25}'),
    FieldOptions(name="flow_backward", tvl1_preset="fast", tvl1_params='{"tau": 0.25}'),
)


def test_options_survive_as_attributes() -> None:
    options = make_options(fields=TWO_FIELDS, step=3, resize='{"mode": "size", "width": 3}')
    assert StoreOptions.from_attrs(options.to_attrs()) == options
    assert field_names(options) == ("flow", "flow_backward")


def test_equal_json_in_another_order_is_no_difference() -> None:
    mine, theirs = make_options(resize='{"a": 1, "b": 2}'), make_options(resize='{"b":2,"a":1}')
    assert mine.differences(theirs) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"step": 2}, "step: stored 1, asked 2"),
        ({"flow_codec": "i16"}, "flow_codec: stored 'i8', asked 'i16'"),
        ({"engine_family": "opencv"}, "engine_family: stored 'flowkit', asked 'opencv'"),
        ({"frame_codec": "none"}, "frame_codec: stored 'jpeg', asked 'none'"),
        ({"jpeg_quality": 80}, "jpeg_quality: stored 95, asked 80"),
    ],
)
def test_differences_name_option_stored_and_asked(change: dict[str, Any], told: str) -> None:
    assert make_options().differences(make_options(**change)) == [told]


def test_settings_that_decide_nothing_are_no_difference() -> None:
    assert make_options(bound_px=20.0).differences(make_options(bound_px=15.0)) == []
    without = make_options(frame_codec="none")
    assert without.differences(dataclasses.replace(without, jpeg_quality=50)) == []


def test_bound_of_the_jpeg_codec_is_a_difference() -> None:
    stored = make_options(flow_codec="jpeg", bound_px=20.0)
    assert stored.differences(dataclasses.replace(stored, bound_px=15.0)) == [
        "bound: stored 20.0, asked 15.0"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0},
        {"flow_codec": "zfp"},
        {"jpeg_quality": 0},
        {"bound_px": float("nan")},
        {"resize": "{"},
        {"fields": ()},
        {"fields": (TWO_FIELDS[1],)},
        {"fields": (TWO_FIELDS[0], TWO_FIELDS[0])},
    ],
)
def test_impossible_options_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        make_options(**change)


@pytest.mark.parametrize("name", ["Flow", "frames", "pts", "a/b", "", "x" * 40])
def test_field_names_that_would_clash_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameterError, match="field name"):
        FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}")


@pytest.mark.parametrize(
    "broken", [{"step": "one"}, {"fields": "[1]"}, {"tvl1_params": "{}"}, {"fields": None}]
)
def test_attributes_that_no_flowkit_wrote_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(StoreFormatError):
        StoreOptions.from_attrs(make_options().to_attrs() | broken)


def test_record_survives_as_attributes() -> None:
    record = make_record("a/b", start_seconds=1.5, end_seconds=None, status="truncated", deviations="x; y")
    attrs = record.to_attrs()
    assert VideoRecord.from_attrs("a/b", attrs) == record
    assert {type(value) for value in attrs.values()} == {str, int, float}


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
