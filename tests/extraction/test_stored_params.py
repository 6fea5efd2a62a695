"""A store goes on with the TV-L1 parameters and codec that it was made with, unless others are asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import StoreOptionsError
from flowkit.extraction.config import ExtractConfig, resumed_config, store_options
from flowkit.extraction.run import extract
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, FLOW_CODECS
from flowkit.store.schema import StoreOptions
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params, resolve_params
from tests.make import clips
from tests.make.small import NATIVE

PARITY = resolve_params("opencv-cuda")


def options_of(params: TVL1Params | None) -> StoreOptions:
    return store_options(ExtractConfig(params=params), backend="cpu")


def test_a_new_store_has_the_default_preset() -> None:
    assert resumed_config(ExtractConfig(), None).params is None
    assert options_of(None).fields[0].tvl1_preset == DEFAULT_PRESET


@pytest.mark.parametrize("params", [PARITY, dataclasses.replace(PARITY, warps=3)])
def test_without_parameters_those_of_the_store_are_taken(params: TVL1Params) -> None:
    config = resumed_config(ExtractConfig(), options_of(params))
    assert config.params == params
    assert store_options(config, backend="cpu") == options_of(params)


def test_parameters_that_were_given_are_kept() -> None:
    given = resolve_params(DEFAULT_PRESET)
    assert resumed_config(ExtractConfig(params=given), options_of(PARITY)).params == given


def test_another_method_takes_no_parameters_of_a_store() -> None:
    assert resumed_config(ExtractConfig(method="dis"), options_of(PARITY)).params is None


def test_parameters_of_another_version_are_left_to_the_comparison() -> None:
    stored = options_of(PARITY)
    field = dataclasses.replace(stored.fields[0], tvl1_params='{"lambda": 0.1}')
    assert resumed_config(ExtractConfig(), dataclasses.replace(stored, fields=(field,))).params is None


def test_a_new_store_has_the_default_codec() -> None:
    assert (options_of(None).flow_codec, options_of(None).bound_px) == (DEFAULT_FLOW_CODEC, DEFAULT_BOUND_PX)


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_without_a_codec_that_of_the_store_is_taken(codec: str) -> None:
    stored = dataclasses.replace(options_of(None), flow_codec=codec, bound_px=7.0)
    assert store_options(resumed_config(ExtractConfig(), stored), backend="cpu") == stored


def test_a_codec_and_a_bound_that_were_given_are_kept() -> None:
    stored = dataclasses.replace(options_of(None), flow_codec="jpeg", bound_px=7.0)
    config = resumed_config(ExtractConfig(flow_codec="i16", bound_px=20.0), stored)
    assert (config.flow_codec, config.bound_px) == ("i16", 20.0)
    assert resumed_config(ExtractConfig(flow_codec="jpeg"), stored).bound_px == 7.0


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_a_store_of_another_codec_is_resumed_by_the_same_call(codec: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    store = tmp_path / "out.h5"
    bound_px: float | None
    for name, given, bound_px in (("a", codec, 15.0), ("b", None, None)):
        clips.mpeg4_avi(tmp_path / "videos" / f"{name}.avi", clips.moving_texture(3, height=24, width=32))
        config = ExtractConfig(flow_codec=given, bound_px=bound_px, resize=NATIVE, jobs=1)
        assert extract(tmp_path / "videos", store, config=config).stored == 1
    with flowkit.open(store) as opened:
        assert (opened.options.flow_codec, opened.options.bound_px) == (codec, 15.0)
        assert np.array_equal(opened["a"].flow(), opened["b"].flow())
    other = next(name for name in FLOW_CODECS if name != codec)
    with pytest.raises(StoreOptionsError, match=f"flow_codec: stored {codec!r}, asked {other!r}"):
        extract(tmp_path / "videos", store, config=dataclasses.replace(config, flow_codec=other))


def test_a_store_of_another_preset_is_resumed_by_the_same_call(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    store = tmp_path / "out.h5"
    for name, params in (("a", PARITY), ("b", None)):
        clips.mpeg4_avi(tmp_path / "videos" / f"{name}.avi", clips.moving_texture(3, height=24, width=32))
        config = ExtractConfig(params=params, resize=NATIVE, jobs=1)
        report = extract(tmp_path / "videos", store, config=config)
        assert (report.stored, len(report.failures)) == (1, 0)
    with flowkit.open(store) as opened:
        assert list(opened) == ["a", "b"]
        assert opened.options.fields[0].tvl1_preset == "opencv-cuda"
    asked = ExtractConfig(params=resolve_params("fast"), resize=NATIVE, jobs=1)
    with pytest.raises(StoreOptionsError, match=r"stored .*opencv-cuda.* asked .*fast"):
        extract(tmp_path / "videos", store, config=asked)
