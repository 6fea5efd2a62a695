from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError, StoreFormatError
from flowkit.store.schema import FieldOptions, StoreOptions, field_names

from .conftest import make_options

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
    ("change", "message"),
    [
        ({"step": 2}, "step: stored 1, asked 2"),
        ({"flow_codec": "i16"}, "flow_codec: stored 'q8', asked 'i16'"),
        ({"engine_family": "opencv"}, "engine_family: stored 'flowkit', asked 'opencv'"),
        ({"frame_codec": "none"}, "frame_codec: stored 'jpeg', asked 'none'"),
        ({"jpeg_quality": 80}, "jpeg_quality: stored 95, asked 80"),
    ],
)
def test_differences_name_option_stored_and_asked(change: dict[str, Any], message: str) -> None:
    assert make_options().differences(make_options(**change)) == [message]


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


@pytest.mark.parametrize(
    ("preset", "params", "method", "summary"),
    [
        ("tsn", '{"tau": 0.25}', "tvl1", "TV-L1 preset tsn"),
        ("imported", "{}", "tvl1", "TV-L1 preset imported"),
        ("fast", '{"method": "dis", "params": {}, "versions": {}}', "dis", "dis preset fast"),
        (
            "",
            '{"method": "mine.flow:raft", "params": {}, "versions": {}}',
            "mine.flow:raft",
            "mine.flow:raft",
        ),
        ("x", "[1]", "tvl1", "TV-L1 preset x"),
    ],
)
def test_a_field_without_a_method_is_tvl1s(preset: str, params: str, method: str, summary: str) -> None:
    field = FieldOptions(tvl1_preset=preset, tvl1_params=params)
    assert (field.method, field.summary) == (method, summary)
    options = make_options(fields=(field,))
    assert StoreOptions.from_attrs(options.to_attrs()).fields == (field,)
