"""Functions of one's own: what they state of themselves, how they are called, what is checked."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import BackendError, InvalidParameterError
from flowkit.methods import flow_method
from flowkit.methods.function import FunctionMethod, read_function
from tests.make import flow_functions
from tests.make.clips import moving_texture

HERE = "tests.make.flow_functions"


def flow_of(name: str, n: int = 3) -> np.ndarray:
    pairs = [(k, k + 1) for k in range(n - 1)]
    return flowkit.flow_batch(moving_texture(n, height=6, width=8), pairs, method=f"{HERE}:{name}")


def test_attributes_say_batch_settings_and_version() -> None:
    method = read_function(f"{HERE}:red")
    assert (method.batch_size, method.one_process, method.preset) == (3, False, "")
    assert json.loads(method.to_json()) == {
        "method": f"{HERE}:red",
        "function": f"{HERE}.red",
        "params": {"channel": 0},
        "versions": {"tests": "7"},
    }


def test_an_option_replaces_the_functions_batch_and_is_not_kept() -> None:
    method = read_function(f"{HERE}:red", batch_size=5)
    assert method.batch_size == 5
    assert method.to_json() == read_function(f"{HERE}:red").to_json()


def test_without_attributes_a_batch_is_eight_and_the_version_is_the_files_digest() -> None:
    method = read_function(f"{HERE}:process")
    digest = hashlib.sha256(Path(flow_functions.__file__).read_bytes()).hexdigest()
    assert method.batch_size == 8
    assert json.loads(method.to_json())["versions"] == {HERE: f"sha256:{digest[:16]}"}


def test_the_version_of_an_installed_function_is_its_distributions() -> None:
    method = read_function("numpy:zeros_like")
    assert (method.package, method.version) == ("numpy", np.__version__)


def test_a_callable_object_has_the_name_of_its_class() -> None:
    method = flow_method(f"{HERE}:model")
    assert isinstance(method, FunctionMethod)
    assert (method.qualified_name, method.batch_size) == (f"{HERE}.Model", 2)
    assert flow_of("model").shape == (2, 2, 6, 8)


def test_a_function_gets_rgb_pairs_in_batches() -> None:
    frames = moving_texture(8, height=6, width=8)
    pairs = [(k, 7 - k) for k in range(7)]
    flow_functions.calls.clear()
    flow = flowkit.flow_batch(frames, pairs, method=f"{HERE}:red")
    assert flow_functions.calls == [3, 3, 1]
    assert np.array_equal(flow * 8, np.stack([frames[[k, 7 - k], ..., 0] for k in range(7)]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("double", "returned float64 (2, 2, 6, 8), expected float32 (2, 2, 6, 8) of finite px"),
        ("channels_last", "returned float32 (2, 6, 8, 2), expected float32 (2, 2, 6, 8)"),
        ("listed", "returned list, expected float32 (2, 2, 6, 8)"),
        ("bright", "values that are not finite, expected float32 (2, 2, 6, 8)"),
        ("failing", "raised RuntimeError: the model has no weights (flow_functions.py, line "),
    ],
)
def test_what_is_no_flow_is_refused_with_got_and_expected(name: str, message: str) -> None:
    with pytest.raises(BackendError, match=re.escape(message)) as caught:
        flow_of(name)
    assert f"method '{HERE}:{name}' " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no_batch", "batch_size of .*:no_batch"), ("no_params", "params of .*:no_params .* a dict that JSON")],
)
def test_attributes_outside_their_range_are_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        read_function(f"{HERE}:{name}")


def test_grey_frames_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"frames must be .*uint8 \(n, H, W, 3\), got uint8"):
        flowkit.flow_batch(np.zeros((2, 6, 8), np.uint8), [(0, 1)], method=f"{HERE}:red")
