"""Public names of the reading side: every type in their signatures is public too."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator

import pytest

import flowkit
from flowkit import datasets

FUNCTIONS: tuple[Callable[..., object], ...] = (
    flowkit.export,
    flowkit.import_rawframes,
    flowkit.merge,
    flowkit.open,
    flowkit.recode,
    flowkit.relabel,
    flowkit.repair,
    flowkit.subset,
    flowkit.verify,
    datasets.check_split,
    datasets.class_balance,
    datasets.k_fold,
    datasets.read_split,
    datasets.resolve_splits,
    datasets.split_from_ucf101,
    datasets.write_split,
)
CLASSES = (flowkit.Store, flowkit.Clip, datasets.ClipSamples, datasets.Sampling)
# Of the standard library and NumPy; of the running of tasks, which `flowkit.extract` has too.
ELSEWHERE = {
    *(
        "Any",
        "BinaryIO",
        "Callable",
        "Generator",
        "Iterable",
        "Iterator",
        "Mapping",
        "NDArray",
        "None",
        "Path",
    ),
    *("Path", "Sequence", "Executor", "Progress", "VideoOutcome"),
}
# `Flow`: float32 (…, 2, H, W). `Indices`: a sequence of int or an array. `ClipSource`: a `Store`.
ALIASES = {"ClipSource", "Flow", "Indices"}


def public_methods(owner: type) -> Iterator[Callable[..., object]]:
    for name, member in vars(owner).items():
        function = member.fget if isinstance(member, property) else member
        # `stored_video` is for the tools of the store.
        if inspect.isfunction(function) and not name.startswith("_") and name != "stored_video":
            yield function


METHODS = [method for owner in CLASSES for method in public_methods(owner)]


@pytest.mark.parametrize("function", [*FUNCTIONS, *METHODS], ids=lambda function: function.__qualname__)
def test_every_type_of_a_signature_is_public(function: Callable[..., object]) -> None:
    named = " ".join(str(annotation) for annotation in function.__annotations__.values())
    words = set(re.findall(r"\b[A-Z]\w+", named))
    assert words - ELSEWHERE - ALIASES <= {*flowkit.__all__, *datasets.__all__}


def test_options_beyond_the_natural_arguments_are_by_keyword() -> None:
    for function in (flowkit.Clip.flow, flowkit.Clip.codes, flowkit.Clip.iter_flow, flowkit.Clip.iter_codes):
        field = inspect.signature(function).parameters["field"]
        assert (field.kind, field.default) == (inspect.Parameter.KEYWORD_ONLY, "flow")
