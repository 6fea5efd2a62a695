"""The text of TV-L1 parameters: what stores keep, now and since the first version."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import PRESETS, Dual, Pyramid, TVL1Params, preset_of
from tests.make.first_params import FIRST_TEXTS

ADDED: dict[str, Any] = {
    "check_first": 3,
    "warp_snap": 0.1,
    "gradient_taps": 5,
    "dual": "projected",
    "dual_start": "coarser",
    "edge_alpha": 5.0,
    "edge_beta": 0.7,
    "weighted_median": 7,
    "weighted_median_after": "level",
    "weighted_median_spread": 0.2,
    "weighted_median_grey": 9.0,
    "weighted_median_px": 2.0,
    "block_epsilon": 0.01,
}
FIRST_NAMES = json.loads(FIRST_TEXTS["fast"]).keys()


@st.composite
def parameters(draw: st.DrawFn) -> TVL1Params:
    """Any valid parameters."""
    pyramid: Pyramid = draw(st.sampled_from(get_args(Pyramid)))
    dual: Dual = draw(st.sampled_from(get_args(Dual)))
    scale = st.floats(0.01, 0.99)
    return TVL1Params(
        tau=draw(st.floats(0, 0.25, exclude_min=True)),
        lambda_=draw(st.floats(1e-3, 10)),
        theta=draw(st.floats(1e-3, 10)),
        nscales=draw(st.integers(1, 200)),
        scale_step=0.5 if pyramid == "pyrdown" else draw(scale),
        pyramid=pyramid,
        warps=draw(st.integers(1, 2**40)),
        iterations=draw(st.integers(1, 2**40)),
        epsilon=draw(st.floats(0, 1)),
        check_every=draw(st.integers(1, 100)),
        median=draw(st.sampled_from((0, 5))),
        median_every=draw(st.integers(1, 100)),
        bicubic_a=draw(st.floats(-1, 0)),
        border=draw(st.sampled_from(("clamp", "off"))),
        presmooth_sigma=draw(st.floats(0, 5)),
        normalize=draw(st.booleans()),
        check_first=draw(st.integers(0, 100)),
        warp_snap=draw(st.floats(0, 0.5)),
        gradient_taps=draw(st.sampled_from((3, 5))),
        dual=dual,
        dual_start=draw(st.sampled_from(("zero", "coarser"))),
        edge_alpha=0.0 if dual == "semi-implicit" else draw(st.floats(0, 1000)),
        edge_beta=draw(st.floats(0.5, 4)),
        weighted_median=draw(st.sampled_from((0, 5, 7))),
        weighted_median_after=draw(st.sampled_from(("warp", "level"))),
        weighted_median_spread=draw(st.floats(0, 10)),
        weighted_median_grey=draw(st.floats(0.01, 1e6)),
        weighted_median_px=draw(st.floats(0.01, 1e6)),
        block_epsilon=draw(st.floats(0, 0.0625)),
    )


@given(params=parameters())
def test_parameters_survive_their_text(params: TVL1Params) -> None:
    text = params.to_json()
    assert TVL1Params.from_json(text) == params
    assert TVL1Params.from_json(text).to_json() == text


@given(params=parameters())
def test_equal_parameters_have_equal_text_and_others_another(params: TVL1Params) -> None:
    again = TVL1Params(**dataclasses.asdict(params))
    changed = dataclasses.replace(params, check_first=params.check_first + 1)
    assert again.to_json() == params.to_json() != changed.to_json()


@pytest.mark.parametrize("preset", FIRST_TEXTS)
def test_a_text_of_the_first_version_comes_back_as_it_was(preset: str) -> None:
    params = TVL1Params.from_json(FIRST_TEXTS[preset])
    assert params.to_json() == FIRST_TEXTS[preset]
    assert preset_of(params) == preset


@pytest.mark.parametrize("preset", FIRST_TEXTS)
def test_what_the_first_version_had_not_is_off(preset: str) -> None:
    params = TVL1Params.from_json(FIRST_TEXTS[preset])
    off = (params.check_first, params.gradient_taps, params.edge_alpha, params.weighted_median)
    assert off == (0, 3, 0.0, 0)
    assert (params.dual, params.dual_start) == ("semi-implicit", "zero")


def test_a_changed_first_version_is_custom() -> None:
    first = TVL1Params.from_json(FIRST_TEXTS["accurate"])
    assert preset_of(dataclasses.replace(first, gradient_taps=5)) == "custom"


@pytest.mark.parametrize("name", ADDED)
def test_the_text_has_a_parameter_that_is_not_the_first_versions(name: str) -> None:
    first = TVL1Params.from_json(FIRST_TEXTS["opencv-cuda"])
    changed = dataclasses.replace(first, **{"dual": "projected", name: ADDED[name]})
    assert json.loads(changed.to_json()).keys() == {*FIRST_NAMES, "dual", name}
    assert TVL1Params.from_json(changed.to_json()) == changed


def test_every_parameter_is_of_the_first_version_or_listed_here() -> None:
    assert {*FIRST_NAMES, *ADDED} == {field.name for field in dataclasses.fields(TVL1Params)}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_its_text_with_its_name(preset: str) -> None:
    params = TVL1Params.from_json(PRESETS[preset].to_json())
    assert params == PRESETS[preset]
    assert preset_of(params) == preset


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"tau": 0.2}', "null"])
def test_a_text_of_something_else_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"must be an object of bicubic_a, .*, got '"):
        TVL1Params.from_json(text)


def test_a_text_with_a_name_too_many_is_refused() -> None:
    values = json.loads(FIRST_TEXTS["fast"]) | {"colours": 3}
    with pytest.raises(InvalidParameterError, match="must be an object of"):
        TVL1Params.from_json(json.dumps(values))
