"""Training configurations: presets, round trips, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError
from gating.config import Extension, Preset, Schedule
from gating.train_config import PRESETS, TrainConfig, train_preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name: Preset) -> None:
    config = train_preset(name)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_choices_at_which_earlier_versions_stood_are_left_out() -> None:
    later = {"head", "flow_input", "all_clips", "modalities"}
    later |= {"class_weights", "sampling", "patience", "extends"}
    assert later.isdisjoint(train_preset("tiny").to_json())
    assert later.isdisjoint(train_preset("tsn").to_json())


def test_the_release_learns_its_gate_from_the_streams_own_clips() -> None:
    config = train_preset("zhu2018")
    assert (config.gate_data, config.net.prior, config.net.start) == ("same", 0.0, "zero")
    assert (config.gate.lr, config.gate.batch, config.gate.decay) == (0.001, 128, "constant")


def test_tsn_presets_are_its_recipe() -> None:
    config = train_preset("tsn")
    assert (config.rgb.lr, config.rgb.clip_norm, config.rgb.batch) == (0.001, 40, 128)
    assert (config.flow.lr, config.flow.clip_norm) == (0.005, 20)
    assert config.stream_augment("flow").scales == (1.0, 0.875, 0.75)
    assert config.stream_augment("rgb").scales == (1.0, 0.875, 0.75, 0.66)
    # 9,537 clips in batches of 128: 3,500 and 18,000 iterations.
    steps = -(-9537 // 128)
    assert abs(config.rgb.epochs * steps - 3500) < steps
    assert abs(config.flow.epochs * steps - 18_000) < steps


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"optimizer": "adam"},
        {"decay": "linear"},
        {"milestones": (3, 2), "decay": "steps"},
        {"milestones": (3,)},
        {"warmup_epochs": 5.0},
        {"batch": 0},
        {"clip_norm": 0.0},
    ],
)
def test_impossible_schedules_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(changes))):
        Schedule(**{"epochs": 5, "lr": 0.1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"gate_data": "test"},
        {"preset": "huge"},
        {"segments": 0},
        {"stream_folds": 1},
        {"holdout_share": 0.6},
        {"validation_share": 0.0},
        {"test_crops": 3},
        {"seed": -1},
        {"modalities": ()},
        {"modalities": ("flow", "rgb")},
        {"fusion": "stack", "modalities": ("flow",)},
        {"gate_data": "same", "all_clips": True},
        {"class_weights": "heavy"},
        {"sampling": "even"},
        {"patience": 0},
        {"extends": Extension(run="runs/old"), "head": "clip", "gate_data": "out-of-fold"},
        {"patience": 2, "all_clips": True},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(changes))):
        dataclasses.replace(train_preset("tiny"), **changes)  # type: ignore[arg-type]


def test_a_record_with_other_names_is_refused() -> None:
    values = train_preset("tiny").to_json()
    with pytest.raises(InvalidParameterError, match="config must be an object with names of TrainConfig"):
        TrainConfig.from_json({})
    with pytest.raises(InvalidParameterError, match=r"got.*'lrs'"):
        TrainConfig.from_json(values | {"lrs": 1})
    with pytest.raises(InvalidParameterError, match="flow must be an object"):
        TrainConfig.from_json(values | {"flow": None})
    with pytest.raises(InvalidParameterError, match="Invalid stage"):
        train_preset("tiny").schedule("streams")  # type: ignore[arg-type]


SEGMENTS: tuple[object, ...] = ("3", 3.0, True, None, 0, -1, 10**9, 10**12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("segments", value) for value in SEGMENTS),
        *(("test_segments", 10**9), ("stack", 0), ("stack", 10**9), ("stream_folds", 10**12)),
        *(("backbone", []), ("backbone", 3), ("backbone", "vgg")),
        *(("short", "loop"), ("field", None), ("amp", 1), ("seed", 10**30), ("test_crops", 1.0)),
        *(("rgb_dropout", float("nan")), ("validation_share", float("inf")), ("flow_scales", "1")),
    ],
)
def test_a_record_with_values_that_no_run_has_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidParameterError, match=name) as caught:
        TrainConfig.from_json(train_preset("tiny").to_json() | {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *(("rgb", "epochs", 1e308), ("rgb", "epochs", "1"), ("rgb", "epochs", 0), ("rgb", "epochs", 10**12)),
        *(("rgb", "batch", -1), ("rgb", "batch", 10**12), ("rgb", "batch", None)),
        *(("gate", "milestones", 3), ("gate", "milestones", ["a"]), ("flow", "segments", 10**9)),
        *(("flow", "lr", "fast"), ("flow", "optimizer", {}), ("augment", "size", 10**9)),
        *(("augment", "scales", [[1.0]]), ("net", "fixed", [1.0]), ("net", "num_classes", 10**12)),
        *(("net", "tap_channels", 10**12), ("net", "width", float("inf"))),
    ],
)
def test_a_part_of_a_record_with_values_that_no_run_has_is_refused(
    part: str, name: str, value: object
) -> None:
    values: dict[str, Any] = train_preset("tiny").to_json()
    values[part] = {**values[part], name: value}
    with pytest.raises(InvalidParameterError, match=name):
        TrainConfig.from_json(values)
