"""The interface of a method, and what a store keeps of it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Literal, Protocol, Self, TypeAlias

from flowkit.tvl1.engine import Solver

Images: TypeAlias = Literal["grey", "rgb"]
"""The frames that a method takes: uint8 (n, H, W), grey by `flowkit.frames.to_grey`, or (n, H, W, 3) RGB."""


class FlowMethod(Hashable, Protocol):
    """One way to compute flow, with its parameters: hashable, and to be pickled."""

    @property
    def name(self) -> str:
        """Return the name of `METHODS`, or `package.module:function`."""

    @property
    def preset(self) -> str:
        """Return the preset that equals the parameters, "custom", or "" where the method has none."""

    @property
    def images(self) -> Images:
        """Return the kind of frames that it takes."""

    @property
    def one_process(self) -> bool:
        """Return whether one process computes for all, because it has a device to itself."""

    def to_json(self) -> str:
        """Return method, parameters and versions as the JSON object that a store's field keeps."""

    def load(self) -> Solver:
        """Return what computes; its `flow_batch` takes frames of the kind `images`.

        Raises
        ------
        BackendError
            It cannot run here.
        """


class NamedMethod(FlowMethod, Protocol):
    """A method with presets, of the registry."""

    @classmethod
    def of_preset(cls, name: str) -> Self:
        """Return the method with the parameters of a preset of its."""


def method_json(
    method: str, *, params: Mapping[str, object], versions: Mapping[str, str], function: str = ""
) -> str:
    """Return what a store's field keeps of a method other than TV-L1, whose field has its parameters alone.

    Parameters
    ----------
    method
        Its name.
    params
        Its parameters by name.
    versions
        Of the package that computes, by the package's name.
    function
        For a function of one's own: the qualified name under which it was defined.
    """
    record: dict[str, object] = {"method": method, "params": dict(params), "versions": dict(versions)}
    if function:
        record["function"] = function
    return json.dumps(record, sort_keys=True, ensure_ascii=False)
