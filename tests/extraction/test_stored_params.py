"""A store goes on with the TV-L1 parameters that it was made with, unless others are asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import flowkit
from flowkit.errors import StoreOptionsError
from flowkit.extraction.config import ExtractConfig, resumed_config, store_options
from flowkit.extraction.run import extract
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
    config = ExtractConfig(method="dis")
    assert resumed_config(config, options_of(PARITY)) is config


def test_parameters_of_another_version_are_left_to_the_comparison() -> None:
    stored = options_of(PARITY)
    field = dataclasses.replace(stored.fields[0], tvl1_params='{"lambda": 0.1}')
    config = ExtractConfig()
    assert resumed_config(config, dataclasses.replace(stored, fields=(field,))) is config


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
