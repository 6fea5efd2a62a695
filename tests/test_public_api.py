"""The names of `flowkit`: all importable, their types among them, their defaults in agreement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

import flowkit
from flowkit.extraction.pipeline import PipelineConfig

FUNCTIONS: tuple[Callable[..., object], ...] = tuple(
    value for name in flowkit.__all__ if inspect.isfunction(value := getattr(flowkit, name))
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_type_of_a_signature_is_public(function: Callable[..., object]) -> None:
    signature = inspect.signature(function)
    named = " ".join(str(part.annotation) for part in signature.parameters.values())
    words = set(re.findall(r"\b[A-Z]\w+", f"{named} {signature.return_annotation}"))
    elsewhere = {"ArrayLike", "BinaryIO", "Callable", "Iterable", "Mapping", "None", "Path", "Sequence"}
    assert words - elsewhere <= set(flowkit.__all__)


def test_the_commands_verbs_are_functions() -> None:
    verbs = {function.__name__ for function in FUNCTIONS}
    assert {
        "extract",
        "export",
        "import_rawframes",
        "merge",
        "recode",
        "relabel",
        "subset",
        "verify",
    } <= verbs


def test_the_package_offers_what_it_lists() -> None:
    assert all(getattr(flowkit, name) is not None for name in flowkit.__all__)
    assert flowkit.tvl1_flow.__name__ == "tvl1_flow"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flowkit.nothing


def test_names_and_homes_are_sorted_and_the_same() -> None:
    assert set(flowkit.__all__) == set(flowkit._HOMES)
    assert list(flowkit._HOMES) == sorted(flowkit._HOMES)


def test_every_decoder_default_is_auto() -> None:
    defaults = [
        inspect.signature(f).parameters["decoder"].default for f in (flowkit.open_video, flowkit.probe)
    ]
    fields = (
        PipelineConfig.__dataclass_fields__["decoder"],
        flowkit.ExtractConfig.__dataclass_fields__["decoder"],
    )
    assert {*defaults, *(field.default for field in fields)} == {"auto"}


def test_every_backend_default_is_auto() -> None:
    defaults = [
        inspect.signature(f).parameters["backend"].default
        for f in (flowkit.tvl1_flow, flowkit.tvl1_flow_batch)
    ]
    assert {*defaults, flowkit.ExtractConfig().backend} == {"auto"}
