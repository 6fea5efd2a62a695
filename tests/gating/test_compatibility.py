"""Stores that networks may be applied to, and the extraction that would make one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("torch")

import click
import cv2

import flowkit
import flowkit_cli.extract
from flowkit.errors import InputError
from flowkit.extraction.config import ExtractConfig, store_options
from flowkit.resize_rule import ResizeRule
from flowkit.store.read.store import Store
from flowkit.store.tools.recode import recode
from flowkit.tvl1.params import TVL1Params, resolve_params
from gating.compatibility import check_store_fits, extract_config, extract_options, with_stated_flow
from gating.data.partition import flow_record
from gating.errors import CheckpointError
from gating.run_folder import DataRecord, FlowRecord, TrialRecord
from tests.make.labelled import quick


def record_of(flow: FlowRecord, **changes: Any) -> TrialRecord:
    data = DataRecord(classes=["a", "b"], split="s", part="test", flow=flow, clips={})
    return TrialRecord(folder=Path("run/s/seed0"), config=quick(**changes), data=data)


def extracted(config: ExtractConfig, **changes: Any) -> TrialRecord:
    return record_of(flow_record(store_options(config, backend="cpu")), **changes)


def own(store: Store) -> FlowRecord:
    return flow_record(store.options)


def test_the_store_of_the_training_fits(labelled_store: Store) -> None:
    assert check_store_fits(record_of(own(labelled_store)), labelled_store) == []


def test_each_difference_is_named_with_the_extraction_that_fits(labelled_store: Store) -> None:
    params, resize = resolve_params("accurate"), ResizeRule(short_side=48)
    config = ExtractConfig(params=params, step=2, fps=12.5, resize=resize)
    with pytest.raises(InputError) as caught:
        check_store_fits(extracted(config), labelled_store)
    message = str(caught.value)
    for difference in (
        "flow.warps is 5 there and 2 here",
        "step is 2 there and 1 here",
        "resize.mode is 'short_side' there and 'native' here",
        "sampling.fps is 12.5 there and None here",
        "flowkit extract --preset accurate --short-side 48 --pixels stored --scaler opencv --step 2 "
        "--fps 12.5 --flow-codec q8 VIDEOS STORE",
    ):
        assert difference in message


def test_another_codec_is_noted_and_fits(labelled_path: Path, tmp_path: Path) -> None:
    with flowkit.open(labelled_path) as store:
        record = record_of(own(store))
    recode(labelled_path, tmp_path / "i16.h5", flow_codec="i16")
    with flowkit.open(tmp_path / "i16.h5") as store:
        notes = check_store_fits(record, store)
    assert len(notes) == 1
    assert "flow_codec is 'q8' where it was trained and 'i16'" in notes[0]


@pytest.mark.parametrize(("bound_px", "fits"), [(20.0, True), (4.0, True), (2.0, False)])
def test_a_codec_that_clips_fits_while_the_networks_clip_as_much(
    labelled_path: Path, tmp_path: Path, bound_px: float, fits: bool
) -> None:
    with flowkit.open(labelled_path) as store:
        record = record_of(own(store))
    assert record.config.augment.bound_px == 4
    recode(labelled_path, tmp_path / "jpeg.h5", flow_codec="jpeg", bound_px=bound_px)
    with flowkit.open(tmp_path / "jpeg.h5") as store:
        if fits:
            assert "'jpeg'" in check_store_fits(record, store)[0]
            return
        with pytest.raises(InputError, match=r"flow_clipped_to_px is 4.0 there and 2.0 here"):
            check_store_fits(record, store)


def test_a_store_without_frames_is_refused(labelled_path: Path, tmp_path: Path) -> None:
    recode(labelled_path, tmp_path / "flow.h5", drop_frames=True)
    with flowkit.open(tmp_path / "flow.h5") as store, pytest.raises(InputError, match="keeps no frames"):
        check_store_fits(record_of(own(store)), store)


def test_a_field_that_the_store_lacks_is_a_difference(labelled_store: Store) -> None:
    record = extracted(ExtractConfig(backward=True, resize=ResizeRule(mode="native")), field="flow_backward")
    with pytest.raises(InputError, match=r"flow_backward is .* and None here.*--backward"):
        check_store_fits(record, labelled_store)


FIRST_FAST = TVL1Params(
    nscales=100, scale_step=0.75, warps=2, epsilon=0.013, bicubic_a=-0.6, border="off", check_first=0
)
"""Preset `fast` of the first version, under whose name it is another one now."""

CONFIGS = (
    ExtractConfig(),
    ExtractConfig(params=FIRST_FAST),
    ExtractConfig(params=resolve_params("ipol"), resize=ResizeRule(mode="native"), backward=True, step=3),
    ExtractConfig(
        params=TVL1Params(warps=3, lambda_=0.05, normalize=True, border="off", median=5),
        resize=ResizeRule(mode="size", width=340, height=256, interpolation="linear"),
        flow_codec="jpeg",
        bound_px=15.0,
        fps=29.97,
    ),
    ExtractConfig(method="dis/fast", backward=True, more_fields=(("b", "tvl1/fast"), ("c", "farneback"))),
    ExtractConfig(params=TVL1Params(warps=3), more_fields=(("red", "tests.make.flow_functions:red"),)),
)


@pytest.mark.parametrize("config", CONFIGS)
def test_an_extraction_is_made_again_from_its_record(config: ExtractConfig) -> None:
    again = extract_config(extracted(config))
    assert store_options(again, backend="cpu") == store_options(config, backend="cpu")


@pytest.mark.parametrize("config", CONFIGS)
def test_the_options_of_the_remedy_make_the_recorded_extraction(
    config: ExtractConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.avi").touch()
    asked: list[ExtractConfig] = []

    def prepare(sources: object, store: object, *, config: ExtractConfig, **_: object) -> None:
        asked.append(config)
        raise click.Abort

    monkeypatch.setattr("flowkit.extraction.run.prepare", prepare)
    words = [*extract_options(extracted(config)), str(tmp_path / "one.avi"), str(tmp_path / "out.h5")]
    with pytest.raises(click.Abort):
        flowkit_cli.extract.command.main(words, standalone_mode=False)
    assert store_options(asked[0], backend="cpu") == store_options(config, backend="cpu")


def test_another_method_is_a_difference_and_another_version_of_it_a_note(labelled_store: Store) -> None:
    options = store_options(ExtractConfig(method="dis", resize=ResizeRule(mode="native")), backend=None)
    record = record_of(flow_record(options))
    with pytest.raises(InputError, match=r"--method dis/medium"):
        check_store_fits(record, labelled_store)
    settings = json.loads(options.fields[0].tvl1_params) | {"versions": {"opencv": "4.8.0"}}
    older = dataclasses.replace(options.fields[0], tvl1_params=json.dumps(settings))
    made = cast(Store, SimpleNamespace(path="old.h5", options=dataclasses.replace(options, fields=(older,))))
    (note,) = check_store_fits(record, made)
    assert note.startswith(f"versions are {{'opencv': '{cv2.__version__}'}} where it was trained and ")
    assert note.endswith("{'opencv': '4.8.0'} in old.h5")


def test_imported_flow_cannot_be_extracted(labelled_store: Store) -> None:
    imported: FlowRecord = {
        **own(labelled_store),
        "tvl1_params": json.dumps({"flow": {}}),
        "tvl1_preset": json.dumps({"flow": "denseflow"}),
        "resize": json.dumps({"mode": "imported"}),
        "sampling": json.dumps({"assumed_fps": 25.0}),
    }
    with pytest.raises(CheckpointError, match="`flowkit extract` cannot make"):
        extract_config(record_of(imported))
    with pytest.raises(InputError, match=r"flow.preset is 'denseflow' there.*imported alike"):
        check_store_fits(record_of(imported), labelled_store)


def imported_like(store: Store, **changes: Any) -> FlowRecord:
    unknown: Any = {
        "tvl1_params": json.dumps({"flow": {}}),
        "tvl1_preset": json.dumps({"flow": "imported"}),
        "resize": json.dumps({"mode": "imported"}),
        "sampling": json.dumps({"assumed_fps": 25.0}),
    }
    made: Any = {**own(store), **unknown, **changes}
    return cast(FlowRecord, made)


def test_imported_flow_takes_the_settings_that_a_store_states(labelled_store: Store) -> None:
    stated = with_stated_flow(record_of(imported_like(labelled_store)), labelled_store)
    assert extract_config(stated) == extract_config(record_of(own(labelled_store)))
    assert check_store_fits(stated, labelled_store) == []


def test_a_store_that_cannot_be_like_the_imported_flow_is_refused(labelled_store: Store) -> None:
    for record, message in (
        (record_of(own(labelled_store)), "was trained on flow of known settings"),
        (record_of(imported_like(labelled_store, step=2)), "step is 2 where the networks .* and 1 in it"),
        (record_of(imported_like(labelled_store), field="flow_dis"), "it has no flow field 'flow_dis'"),
        (
            record_of(imported_like(labelled_store, flow_codec="jpeg", bound=2.0)),
            "flow_clipped_to_px is 2.0 where the networks were trained and 4.0 in it",
        ),
    ):
        with pytest.raises(InputError, match=message):
            with_stated_flow(record, labelled_store)
    options = store_options(ExtractConfig(), backend="cpu")
    other = dataclasses.replace(options, resize=json.dumps({"mode": "imported"}))
    like = cast(Store, SimpleNamespace(path="other.h5", options=other))
    with pytest.raises(InputError, match=r"other\.h5 was imported: nothing in it says how"):
        with_stated_flow(record_of(imported_like(labelled_store)), like)


def test_settings_that_a_newer_version_may_add_are_named(labelled_store: Store) -> None:
    flow: FlowRecord = {
        **own(labelled_store),
        "tvl1_params": json.dumps({"flow": {"warps": 5, "colours": 3}}),
    }
    with pytest.raises(CheckpointError, match="colours"):
        extract_config(dataclasses.replace(record_of(flow)))


@pytest.mark.parametrize("name", ["tvl1_params", "tvl1_preset", "resize", "sampling"])
@pytest.mark.parametrize("text", ["", "[]", "3", "null", "[" * 100_000, '{"a": ' + "9" * 10_000 + "}"])
def test_settings_that_are_no_object_name_the_record(labelled_store: Store, name: str, text: str) -> None:
    flow: Any = {**own(labelled_store), name: text}
    record = record_of(flow)
    with pytest.raises(InputError, match=rf"{name} of .*trial\.json (is|must be)") as caught:
        check_store_fits(record, labelled_store)
    assert len(str(caught.value)) < 500
