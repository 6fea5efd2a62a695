"""A store goes on with the TV-L1 parameters and codec that it was made with, unless others are asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import StoreOptionsError
from flowkit.extraction.config import ExtractConfig, resumed_config, store_options
from flowkit.extraction.plan import check_options
from flowkit.extraction.run import extract
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, FLOW_CODECS
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS, TVL1Params, resolve_params
from tests.make import clips
from tests.make.first_params import FIRST_TEXTS
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


def first_options(preset: str, **changes: object) -> StoreOptions:
    """The options that the first version gave a store of a preset."""
    field = FieldOptions(tvl1_preset=preset, tvl1_params=FIRST_TEXTS[preset])
    return dataclasses.replace(options_of(PARITY), fields=(field,), **changes)  # type: ignore[arg-type]


def refusal(asked: StoreOptions, stored: StoreOptions) -> str:
    with pytest.raises(StoreOptionsError) as caught:
        check_options(asked, stored, Path("out.h5"))
    return str(caught.value)


@pytest.mark.parametrize("preset", FIRST_TEXTS)
def test_a_store_of_the_first_version_goes_on_under_its_own_preset(preset: str) -> None:
    stored = first_options(preset)
    resumed = store_options(resumed_config(ExtractConfig(), stored), backend="cpu")
    assert resumed == stored
    assert resumed.to_attrs() == stored.to_attrs()
    check_options(resumed, stored, Path("out.h5"))


@pytest.mark.parametrize("preset", FIRST_TEXTS)
def test_a_preset_asked_by_name_is_not_the_first_versions(preset: str) -> None:
    message = refusal(options_of(PRESETS[preset]), first_options(preset))
    # Of each parameter that differs its name and both values, and of the others nothing.
    first, now = (
        dataclasses.asdict(one) for one in (TVL1Params.from_json(FIRST_TEXTS[preset]), PRESETS[preset])
    )
    for name in first:
        assert (f"{name} of flow: stored {first[name]!r}, asked {now[name]!r}" in message) == (
            first[name] != now[name]
        )
    assert "check_first of flow: stored 0, asked" in message
    assert "preset of flow" not in message
    assert "tvl1_p" not in message


def test_a_refusal_names_both_presets_and_the_parameters_that_differ_alone() -> None:
    changed = dataclasses.replace(PARITY, warps=3, dual="projected")
    assert refusal(options_of(changed), options_of(PARITY)) == (
        "out.h5 was made with other options: preset of flow: stored 'opencv-cuda', asked 'custom'; "
        "dual of flow: stored 'semi-implicit', asked 'projected'; warps of flow: stored 5, asked 3; "
        "repeat its options, or extract into another file"
    )


def test_a_refusal_names_the_parameters_of_another_version() -> None:
    field = dataclasses.replace(options_of(PARITY).fields[0], tvl1_params='{"lambda": 0.1}')
    message = refusal(options_of(PARITY), dataclasses.replace(options_of(PARITY), fields=(field,)))
    assert "lambda of flow: stored 0.1, asked None" in message
    assert "warps of flow: stored None, asked 5" in message


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_settings_that_are_no_parameters_are_refused(text: str) -> None:
    field = dataclasses.replace(options_of(PARITY).fields[0], tvl1_params=text)
    message = refusal(options_of(PARITY), dataclasses.replace(options_of(PARITY), fields=(field,)))
    assert "warps of flow: stored None, asked 5" in message


def test_both_directions_are_named_one_by_one() -> None:
    stored, asked = (
        store_options(ExtractConfig(params=one, backward=True), backend="cpu")
        for one in (PARITY, dataclasses.replace(PARITY, warps=3))
    )
    message = refusal(asked, stored)
    assert "warps of flow: stored 5, asked 3" in message
    assert "warps of flow_backward: stored 5, asked 3" in message


def test_another_field_is_named_without_the_parameters_of_all() -> None:
    asked = store_options(ExtractConfig(params=PARITY, backward=True), backend="cpu")
    message = refusal(asked, options_of(PARITY))
    assert """fields: stored '["flow"]', asked '["flow", "flow_backward"]'""" in message
    assert "tvl1_p" not in message
