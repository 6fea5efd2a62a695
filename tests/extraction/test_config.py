"""The choices of an extraction, and which of them a store keeps."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.extraction.config import ExtractConfig, store_options
from flowkit.resize_rule import ResizeRule
from flowkit.tvl1.params import resolve_params


@pytest.mark.parametrize(
    ("options", "message"),
    [({"jobs": 0}, "jobs"), ({"fps": 0.0}, "fps"), ({"shard_bytes": 5}, "shard_bytes")],
)
def test_bad_choices_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ExtractConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs must be >= 1, got 0"),
        ({"decoder": "ffmpeg"}, r"decoder \('ffmpeg'\)"),
        ({"segment_frames": 0}, "segment_frames must be >= 1, got 0"),
        ({"fps": 0.0}, r"fps must be in \(0, 100000\) frames per second, got 0\.0"),
        ({"fps": float("nan")}, r"fps must be in \(0, 100000\) frames per second, got nan"),
        ({"shard_bytes": (1 << 20) - 1}, "shard_bytes must be at least 1 MiB, got 1048575"),
    ],
)
def test_a_refusal_has_the_range_and_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ExtractConfig(**options)  # type: ignore[arg-type]


def test_the_smallest_values_of_each_range_are_taken() -> None:
    config = ExtractConfig(jobs=1, segment_frames=1, shard_bytes=1 << 20, fps=0.001)
    assert (config.jobs, config.segment_frames, config.shard_bytes, config.fps) == (1, 1, 1 << 20, 0.001)


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"params": resolve_params("accurate")}, {"tvl1_preset", "tvl1_params"}),
        ({"resize": ResizeRule(short_side=100)}, {"resize"}),
        ({"step": 2}, {"step"}),
        ({"fps": 10.0}, {"sampling"}),
        ({"backward": True}, {"fields", "tvl1_preset", "tvl1_params"}),
        ({"flow_codec": "i16"}, {"flow_codec"}),
        ({"frame_codec": "none"}, {"frame_codec"}),
        ({"jpeg_quality": 80}, {"jpeg_quality"}),
    ],
)
def test_a_choice_that_decides_the_contents_is_an_option_of_the_store(
    changes: dict[str, object], differing: set[str]
) -> None:
    plain = ExtractConfig()
    changed = dataclasses.replace(plain, **changes)  # type: ignore[arg-type]
    differences = store_options(plain, backend="cpu").differences(store_options(changed, backend="cpu"))
    assert {line.partition(":")[0] for line in differences} == differing


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "cpu"},
        {"decoder": "opencv"},
        {"gpus": (1, 2)},
        {"gpu_memory_bytes": 1 << 30},
        {"jobs": 7},
        {"shard_bytes": 1 << 20},
        {"fail_fast": True},
        {"update": True},
        {"segment_frames": 5},
    ],
)
def test_a_choice_of_how_to_run_is_no_option_of_the_store(changes: dict[str, object]) -> None:
    plain = ExtractConfig()
    changed = dataclasses.replace(plain, **changes)  # type: ignore[arg-type]
    assert changed != plain
    assert store_options(changed, backend="cpu") == store_options(plain, backend="cpu")


def test_options_hold_the_configuration() -> None:
    params = resolve_params("accurate")
    config = ExtractConfig(
        params=params,
        step=3,
        fps=12.5,
        flow_codec="jpeg",
        bound_px=15.0,
        jpeg_quality=80,
        resize=ResizeRule(short_side=100),
    )
    options = store_options(config, backend="cpu")
    assert (options.step, options.flow_codec, options.bound_px, options.jpeg_quality) == (3, "jpeg", 15.0, 80)
    assert options.fields[0].tvl1_preset == "accurate"
    assert json.loads(options.fields[0].tvl1_params) == json.loads(params.to_json())
    assert json.loads(options.sampling) == {"fps": 12.5}
    assert json.loads(options.resize)["short_side"] == 100


def test_backward_flow_is_a_second_field_of_the_same_parameters() -> None:
    forward, backward = store_options(ExtractConfig(backward=True), backend="cpu").fields
    assert (forward.name, backward.name) == ("flow", "flow_backward")
    assert dataclasses.replace(backward, name="flow") == forward


def test_opencvs_flow_is_a_family_of_its_own() -> None:
    families = {name: store_options(ExtractConfig(), backend=name) for name in ("cpu", "cuda", "opencv")}
    assert families["cpu"] == families["cuda"]
    assert families["cpu"].differences(families["opencv"]) == [
        "engine_family: stored 'flowkit', asked 'opencv'"
    ]


@pytest.mark.parametrize("changes", [{"flow_codec": "zip"}, {"jpeg_quality": 101}, {"step": 0}])
def test_what_the_store_cannot_hold_is_refused_by_its_options(changes: dict[str, object]) -> None:
    config = dataclasses.replace(ExtractConfig(), **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match=next(iter(changes)).replace("_", ".")):
        store_options(config, backend="cpu")
