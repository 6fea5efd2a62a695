from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS, TVL1Params, preset_of, resolve_params

COMMON = {
    "tau": 0.25,
    "lambda_": 0.15,
    "theta": 0.3,
    "iterations": 300,
    "check_every": 10,
    "check_first": 2,
}
OPENCV = {"nscales": 5, "warps": 5, "epsilon": 0.01, "presmooth_sigma": 0.0, "normalize": False}
OURS = {
    "lambda_": 0.18,
    "nscales": 100,
    "pyramid": "resize",
    "bicubic_a": -0.75,
    "border": "off",
    "gradient_taps": 5,
    "warp_snap": 0.0625,
    "dual": "projected",
    "dual_start": "coarser",
    "edge_alpha": 3.0,
    "edge_beta": 0.8,
    "weighted_median_px": 3.0,
    "median": 0,
    "presmooth_sigma": 0.0,
    "normalize": False,
}

# The table of presets in docs/numerics.md, row by row.
EXPECTED: dict[str, dict[str, Any]] = {
    "opencv-cuda": {
        **OPENCV,
        "scale_step": 0.8,
        "pyramid": "resize",
        "median": 0,
        "bicubic_a": -0.5,
        "border": "clamp",
    },
    "tsn": {
        **OPENCV,
        "scale_step": 0.5,
        "pyramid": "pyrdown",
        "median": 0,
        "bicubic_a": -0.5,
        "border": "clamp",
    },
    "opencv-cpu": {
        **OPENCV,
        "scale_step": 0.8,
        "pyramid": "resize",
        "median": 5,
        "median_every": 30,
        "bicubic_a": -0.75,
        "border": "off",
    },
    "ipol": {
        "nscales": 100,
        "scale_step": 0.5,
        "pyramid": "gaussian",
        "warps": 5,
        "epsilon": 0.01,
        "median": 0,
        "bicubic_a": -0.5,
        "border": "off",
        "presmooth_sigma": 0.8,
        "normalize": True,
    },
    "accurate": {
        **OURS,
        "scale_step": 0.8,
        "warps": 5,
        "iterations": 20,
        "epsilon": 0.005,
        "weighted_median": 7,
        "weighted_median_after": "warp",
        "weighted_median_spread": 0.05,
        "weighted_median_grey": 7.0,
        "block_epsilon": 0.007,
    },
    "fast": {
        **OURS,
        "scale_step": 0.75,
        "warps": 2,
        "iterations": 12,
        "check_every": 12,
        "epsilon": 0.013,
        "weighted_median": 5,
        "weighted_median_after": "level",
        "weighted_median_spread": 0.15,
        "weighted_median_grey": 10.0,
        "block_epsilon": 0.013,
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_preset_has_its_values(name: str) -> None:
    actual = dataclasses.asdict(PRESETS[name])
    expected = COMMON | EXPECTED[name]
    assert {key: actual[key] for key in expected} == expected


def test_there_are_no_other_presets() -> None:
    assert set(PRESETS) == set(EXPECTED)
    assert DEFAULT_PRESET == "fast"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_resolves_to_itself_and_is_recognised(name: str) -> None:
    assert resolve_params(name) is PRESETS[name]
    assert resolve_params(PRESETS[name]) is PRESETS[name]
    assert preset_of(PRESETS[name]) == name


def test_a_changed_preset_is_custom() -> None:
    assert preset_of(dataclasses.replace(PRESETS["fast"], warps=4)) == "custom"


def test_unknown_preset_is_refused_with_the_names() -> None:
    with pytest.raises(InvalidParameterError, match="opencv-cuda, tsn"):
        resolve_params("opencv")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau", 0.0),
        ("tau", 0.26),
        ("lambda_", 0.0),
        ("theta", -0.1),
        ("nscales", 0),
        ("scale_step", 1.0),
        ("scale_step", 0.0),
        ("pyramid", "laplace"),
        ("warps", 0),
        ("iterations", 0),
        ("epsilon", -0.01),
        ("check_every", 0),
        ("median", 3),
        ("median_every", 0),
        ("bicubic_a", 0.1),
        ("bicubic_a", -1.1),
        ("border", "wrap"),
        ("presmooth_sigma", -1.0),
        ("theta", float("nan")),
        ("lambda_", float("inf")),
        ("normalize", 1),
        ("warps", True),
        ("warps", 5.0),
        ("tau", "0.25"),
        ("check_first", -1),
        ("check_first", 2.0),
        ("check_first", True),
        ("warp_snap", -0.1),
        ("warp_snap", 0.51),
        ("gradient_taps", 4),
        ("gradient_taps", "5"),
        ("dual", "explicit"),
        ("dual_start", "finer"),
        ("edge_alpha", -0.1),
        ("edge_alpha", 1001.0),
        ("edge_alpha", float("nan")),
        ("edge_beta", 0.4),
        ("edge_beta", 4.1),
        ("block_epsilon", 0.07),
        ("weighted_median", 3),
        ("weighted_median", 5.0),
        ("weighted_median_after", "pair"),
        ("weighted_median_spread", -0.1),
        ("weighted_median_spread", float("inf")),
        ("weighted_median_grey", 0.0),
        ("weighted_median_grey", 2e6),
        ("weighted_median_px", 0.0),
        ("weighted_median_px", 2e6),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidParameterError, match=rf"^({field} must be .*got |Invalid {field} \()"):
        TVL1Params(**{field: value})  # type: ignore[arg-type]


def test_pyrdown_needs_halves() -> None:
    with pytest.raises(InvalidParameterError, match=r"scale_step must be 0\.5 with pyramid='pyrdown'"):
        TVL1Params(pyramid="pyrdown")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"check_first": -1}, "check_first must be an integer >= 0, got -1"),
        ({"warp_snap": 0.6}, "warp_snap must be in [0, 0.5] px, got 0.6"),
        ({"gradient_taps": 4}, "Invalid gradient_taps (4). Supported values are 3, 5"),
        ({"dual": "explicit"}, "Invalid dual ('explicit'). Supported values are semi-implicit, projected"),
        ({"dual_start": "one"}, "Invalid dual_start ('one'). Supported values are zero, coarser"),
        ({"edge_alpha": -1.0}, "edge_alpha must be in [0, 1000], got -1.0"),
        ({"edge_alpha": 5.0}, "edge_alpha must be 0 with dual='semi-implicit', got 5.0"),
        ({"edge_beta": 0.0}, "edge_beta must be in [0.5, 4], got 0.0"),
        ({"block_epsilon": 0.1}, "block_epsilon must be in [0, 0.0625] px, got 0.1"),
        ({"weighted_median": 3}, "Invalid weighted_median (3). Supported values are 0, 5, 7"),
        (
            {"weighted_median_after": "never"},
            "Invalid weighted_median_after ('never'). Supported values are warp, level",
        ),
        ({"weighted_median_spread": -1.0}, "weighted_median_spread must be >= 0 px, got -1.0"),
        ({"weighted_median_grey": 0.0}, "weighted_median_grey must be in [0.01, 1000000.0], got 0.0"),
        ({"weighted_median_px": 0.0}, "weighted_median_px must be in [0.01, 1000000.0] px, got 0.0"),
    ],
    ids=str,
)
def test_a_value_of_the_extended_model_is_refused_with_what_is_expected(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        TVL1Params(**values)
    assert str(caught.value) == message


def test_edge_weights_are_taken_with_the_projected_dual() -> None:
    assert TVL1Params(dual="projected", edge_alpha=5).edge_alpha == 5.0
    with pytest.raises(InvalidParameterError, match="edge_alpha must be 0"):
        dataclasses.replace(TVL1Params(dual="projected", edge_alpha=5), dual="semi-implicit")


def test_integers_become_floats_where_floats_are_meant() -> None:
    assert TVL1Params(lambda_=1).to_json() == TVL1Params(lambda_=1.0).to_json()


def test_parameters_load_neither_numpy_nor_opencv() -> None:
    code = "import sys, flowkit.tvl1.params; sys.exit(', '.join({'numpy', 'cv2'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
