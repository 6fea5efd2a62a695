"""TV-L1 as a method: its parameters, and the engine that is chosen."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

from flowkit.methods.method import Images
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.engine import Solver
from flowkit.tvl1.params import TVL1Params, preset_of, resolve_params


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TVL1Method:
    """TV-L1 with one set of parameters."""

    name: ClassVar[str] = "tvl1"
    images: ClassVar[Images] = "grey"
    one_process: ClassVar[bool] = False

    params: TVL1Params

    @classmethod
    def of_preset(cls, name: str) -> Self:
        """Return TV-L1 with the parameters of a preset.

        Raises
        ------
        InvalidParameterError
            No preset has this name.
        """
        return cls(params=resolve_params(name))

    @property
    def preset(self) -> str:
        """The preset that equals the parameters, or "custom"."""
        return preset_of(self.params)

    def to_json(self) -> str:
        """Return the parameters alone: format 1.0 has no other method."""
        return self.params.to_json()

    def load(self) -> Solver:
        """Return the engine that backend "auto" takes.

        Raises
        ------
        BackendUnavailableError
            No engine runs here.
        """
        return choose_backend("auto", self.params).solver
