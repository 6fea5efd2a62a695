"""Choices are checked, and presets are those of the release and TSN."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError
from gating.config import (
    AUGMENT_PRESETS,
    STREAM_PRESETS,
    AugmentConfig,
    GateConfig,
    StreamConfig,
    gate_preset,
    released_gate,
)

UNKNOWN: Any = "huge"


def test_streams_drop_out_as_tsn_by_default() -> None:
    assert StreamConfig(modality="rgb", num_classes=101).dropout_rate == 0.8
    assert StreamConfig(modality="flow", num_classes=101).dropout_rate == 0.7
    assert StreamConfig(modality="flow", num_classes=101, dropout=0.0).dropout_rate == 0


def test_flow_stacks_x_and_y() -> None:
    assert StreamConfig(modality="flow", num_classes=2).in_channels == 10
    assert StreamConfig(modality="rgb", num_classes=2).in_channels == 3


def test_released_variants_differ_where_the_release_does() -> None:
    one, other = released_gate(101, "A"), released_gate(101, "B")
    assert (one.combine, one.dropout, one.auxiliary_weight) == ("concat", 0.9, 0.1)
    assert (other.combine, other.dropout, other.auxiliary_weight) == ("height", 0.8, 1.0)
    for gate in (one, other):
        assert (gate.start, gate.prior, gate.normalization) == ("zero", 0.0, "frozen")


def test_only_zhu2018_starts_from_zero() -> None:
    assert {name: gate_preset(name, 8).start for name in STREAM_PRESETS} == {
        "frozen": "fixed",
        "tiny": "fixed",
        "tsn": "fixed",
        "zhu2018": "zero",
    }
    assert gate_preset("zhu2018", 101) == released_gate(101, "A")
    assert set(AUGMENT_PRESETS) == set(STREAM_PRESETS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StreamConfig(modality="rgb", num_classes=1), r"num_classes must be in \[2, 100000\], got 1"),
        (lambda: StreamConfig(modality="depth", num_classes=2), "Invalid modality .* are rgb, flow"),  # type: ignore[arg-type]
        (lambda: StreamConfig(modality="flow", num_classes=2, stack=0), r"stack must be in \[1, 256\]"),
        (lambda: StreamConfig(modality="flow", num_classes=2, dropout=1.0), r"dropout must be in \[0, 1\)"),
        (lambda: GateConfig(num_classes=2, prior=-1), "prior must be finite and >= 0, got -1"),
        (lambda: GateConfig(num_classes=2, fixed=(1.0, 0.0)), "two finite weights > 0"),
        (lambda: GateConfig(num_classes=2, combine="product"), "Invalid combine .* are concat"),  # type: ignore[arg-type]
        (lambda: GateConfig(num_classes=2, width=0), r"width must be in \(0, 4\]"),
        (lambda: AugmentConfig(scales=()), "scales must be one or more fractions"),
        (lambda: AugmentConfig(bound_px=0), "bound_px must be finite and > 0"),
        (lambda: released_gate(101, "C"), r"Invalid variant \('C'\)\. .* are A, B"),  # type: ignore[arg-type]
        (lambda: gate_preset(UNKNOWN, 8), "Invalid preset .* are frozen, tiny, tsn, zhu2018"),
    ],
)
def test_wrong_choices_say_what_is_expected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        make()


def test_importing_gating_and_its_configurations_loads_no_torch() -> None:
    code = "import sys, gating; gating.GateConfig; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
