"""Texts that name a method, and the presets behind them."""

from __future__ import annotations

import importlib
import json
import pickle

import pytest

from flowkit.errors import BackendUnavailableError, InvalidParameterError
from flowkit.methods import METHODS, check_method, flow_method
from flowkit.methods.method import FlowMethod
from flowkit.tvl1 import params

HOMES = {"tvl1": "flowkit.tvl1.params", "dis": "", "farneback": ""}
NAMES = [f"{name}/{preset}" for name, entry in METHODS.items() for preset in entry.presets]


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_has_the_presets_of_each_method(name: str) -> None:
    home = HOMES[name] or METHODS[name].home.partition(":")[0]
    assert set(METHODS[name].presets) == set(importlib.import_module(home).PRESETS)


@pytest.mark.parametrize("text", NAMES)
def test_a_preset_is_found_again_by_its_parameters(text: str) -> None:
    method = flow_method(text)
    assert f"{method.name}/{method.preset}" == text


@pytest.mark.parametrize("text", [*NAMES, "tests.make.flow_functions:red"])
def test_a_method_can_be_hashed_and_pickled(text: str) -> None:
    method: FlowMethod = pickle.loads(pickle.dumps(flow_method(text)))
    assert {method: 1}[flow_method(text)] == 1


def test_a_name_alone_is_its_first_preset() -> None:
    assert flow_method("dis") == flow_method("dis/medium")
    assert flow_method("farneback") == flow_method("farneback/samples")
    assert flow_method("tvl1").preset == params.DEFAULT_PRESET


def test_tvl1_keeps_its_parameters_as_format_1_0_has_them() -> None:
    assert flow_method("tvl1/tsn").to_json() == params.PRESETS["tsn"].to_json()


@pytest.mark.parametrize("text", ["dis/medium", "farneback/samples", "tests.make.flow_functions:red"])
def test_other_methods_keep_their_name_parameters_and_versions(text: str) -> None:
    record = json.loads(flow_method(text).to_json())
    assert record["method"] == text.partition("/")[0]
    assert record["params"]
    assert len(record["versions"]) == 1
    assert all(record["versions"].values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raft", r"Invalid method \('raft'\). Supported are tvl1, dis, farneback"),
        ("", "Invalid method"),
        ("dis/slow", r"Invalid preset of method 'dis' \('slow'\). Supported values are medium, fast, ultra"),
        ("mine.py:flow me", "expected package.module:function"),
        (":flow", "expected package.module:function"),
        ("tests.make.flow_functions:none", "module tests.make.flow_functions has no function 'none'"),
        ("tests.make.flow_functions:calls", "has no function 'calls'"),
    ],
)
def test_what_names_no_method_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        flow_method(text)


def test_a_module_that_is_not_here_is_refused_with_the_cause() -> None:
    check_method("nowhere_at_all.flow:raft")
    with pytest.raises(BackendUnavailableError, match="No module named 'nowhere_at_all'"):
        flow_method("nowhere_at_all.flow:raft")
