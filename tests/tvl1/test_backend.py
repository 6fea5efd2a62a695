from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, get_args

import pytest

from flowkit.errors import BackendError, BackendUnavailableError, InvalidParameterError
from flowkit.tvl1.backend import AUTO_ORDER, ENGINES, BackendName, available_backends, choose_backend
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.solver import ReferenceSolver


def install(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Exception | None) -> None:
    """Put a made-up engine in the place of the module of backend `name`."""
    module = ModuleType(ENGINES[name])

    def load(params: TVL1Params) -> ReferenceSolver:
        if outcome is not None:
            raise outcome
        return ReferenceSolver(params=params)

    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def remove(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let importing the module of backend `name` fail as it does where the module does not exist."""
    found = importlib.import_module

    def missing(module: str) -> ModuleType:
        if module == ENGINES[name]:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return found(module)

    monkeypatch.setattr(importlib, "import_module", missing)


def test_auto_takes_the_first_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "cuda", None)
    choice = choose_backend("auto", "fast")
    assert choice.reason == "cuda: the first of cuda, cpu, opencv"
    assert isinstance(choice.solver, ReferenceSolver)
    assert choice.solver.params is PRESETS["fast"]


def test_auto_says_what_it_skipped_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "cuda")
    install(monkeypatch, "cpu", BackendUnavailableError("backend 'cpu' is unavailable: no compiler"))
    install(monkeypatch, "opencv", None)
    assert choose_backend().reason == (
        "opencv: backend 'cuda' is unavailable: not built; backend 'cpu' is unavailable: no compiler"
    )


def test_auto_skips_an_engine_that_cannot_honour_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "cuda", BackendError("cuda refuses"))
    install(monkeypatch, "cpu", None)
    assert choose_backend("auto", "ipol").reason == "cpu: cuda refuses"


def test_auto_with_nothing_left_names_every_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AUTO_ORDER:
        install(monkeypatch, name, BackendUnavailableError(f"no {name} here"))
    with pytest.raises(BackendUnavailableError, match="no cuda here; no cpu here; no opencv here; run"):
        choose_backend()


@pytest.mark.parametrize("name", ["cuda", "cpu", "opencv"])
def test_a_named_backend_never_falls_back(name: BackendName, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in AUTO_ORDER:
        install(monkeypatch, other, None)
    install(monkeypatch, name, BackendUnavailableError(f"no {name} here"))
    with pytest.raises(BackendUnavailableError, match=f"^no {name} here$"):
        choose_backend(name)


def test_a_named_backend_says_so() -> None:
    choice = choose_backend("reference", "ipol")
    assert choice.reason == "reference: asked for by name"
    assert choice.solver.name == "reference"
    assert choice.solver.deviations == ()


def test_an_unexpected_error_of_an_engine_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "cuda", ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        choose_backend()


def test_a_missing_third_party_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BackendUnavailableError, match="unavailable: module 'cupy' is not installed"):
        choose_backend("cuda")


def test_unknown_backend_is_refused_with_the_names() -> None:
    unknown: Any = "gpu"
    with pytest.raises(
        InvalidParameterError, match=r"Invalid backend \('gpu'\)\. Supported values are auto, cuda, cpu"
    ):
        choose_backend(unknown)


def test_available_backends_reports_each(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "cuda")
    install(monkeypatch, "cpu", None)
    found = {status.name: status for status in available_backends()}
    assert list(found) == ["cuda", "cpu", "opencv", "reference"]
    assert not found["cuda"].available
    assert found["cuda"].reason == "backend 'cuda' is unavailable: not built"
    assert found["cpu"].available
    assert found["opencv"].reason.startswith("OpenCV ")
    assert found["reference"].available


def test_every_backend_name_but_auto_has_its_engine() -> None:
    assert set(get_args(BackendName)) == {"auto", *ENGINES}
    assert set(AUTO_ORDER) < set(ENGINES)
