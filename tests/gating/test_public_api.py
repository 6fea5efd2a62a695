"""The public names of `gating`: they load lazily, and their signatures are public too."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator

import pytest

import gating

WITHOUT_TORCH = (
    *("AugmentConfig", "CheckpointError", "DataRecord", "Event", "FlowRecord", "GateConfig", "GatingError"),
    *("LoaderConfig", "McNemar", "NotFittedError", "OnEvent", "Schedule", "ScoresError", "StreamConfig"),
    *("TrainConfig", "TrainingError", "TrialRecord", "WeightsError", "WeightsUnavailableError"),
    "train_preset",
)


def test_configurations_and_errors_need_no_torch() -> None:
    names = "; ".join(f"gating.{name}" for name in WITHOUT_TORCH)
    code = f"import sys, gating; {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_name_has_a_home_and_a_docstring() -> None:
    pytest.importorskip("torch")
    assert sorted(gating.__all__) == sorted(gating._HOMES)
    for name in gating.__all__:
        value = getattr(gating, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__ == gating._HOMES[name] or name in ("Fusion", "FusionData", "Kind"), name
            assert value.__doc__, name


def named(hint: object) -> Iterator[type]:
    """Yield the classes of gating that a type hint names."""
    for inner in typing.get_args(hint):
        yield from named(inner)
    if isinstance(hint, list):  # the arguments of a Callable
        for inner in hint:
            yield from named(inner)
    if isinstance(hint, type) and hint.__module__.startswith("gating"):
        yield hint


def test_all_that_public_functions_and_dataclasses_take_and_return_is_public() -> None:
    pytest.importorskip("torch")
    public = {getattr(gating, name) for name in gating.__all__ if name != "FUSIONS" and name != "Event"}
    hidden = {
        f"{name} names {kind.__name__}"
        for name in gating.__all__
        if inspect.isfunction(value := getattr(gating, name)) or dataclasses.is_dataclass(value)
        for hint in typing.get_type_hints(value).values()
        for kind in named(hint)
        if kind not in public
    }
    assert hidden == set()


def test_results_of_public_functions_are_no_dicts() -> None:
    pytest.importorskip("torch")
    for name in ("train", "evaluate", "predict", "load_networks", "train_preset", "write_report"):
        assert "dict[" not in str(typing.get_type_hints(getattr(gating, name))["return"]), name
