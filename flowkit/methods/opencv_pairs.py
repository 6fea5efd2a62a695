"""OpenCV's methods for one pair of grey images behind the engines' interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError, InvalidParameterError
from flowkit.methods.method import Images, method_json
from flowkit.tvl1.engine import check_batch
from flowkit.tvl1.opencv import one_cv2_thread
from flowkit.typing import UInt8
from flowkit.validate import check_choice


class OpenCVMethod:
    """A method of cv2's with presets; a subclass is a frozen dataclass of its parameters."""

    __slots__ = ()

    name: ClassVar[str]
    images: ClassVar[Images] = "grey"
    one_process: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Any]]
    """Its parameters by the name of each preset."""

    @classmethod
    def of_preset(cls, name: str) -> Self:
        """Return the method with the parameters of one of its `presets`.

        Raises
        ------
        InvalidParameterError
            No preset has this name.
        """
        check_choice(f"preset of method {cls.name!r}", name, cls.presets)
        chosen: Self = cls.presets[name]
        return chosen

    @property
    def preset(self) -> str:
        """The preset that equals the parameters, or "custom"."""
        return next((name for name, preset in self.presets.items() if preset == self), "custom")

    def to_json(self) -> str:
        """Return parameters and version."""
        params = dataclasses.asdict(self)  # type: ignore[call-overload]
        return method_json(self.name, params=params, versions={"opencv": cv2.__version__})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OpenCVPairs:
    """A method of cv2's, pair by pair.

    Parameters
    ----------
    name : str
        Of the method.
    solve : callable
        Called as `solve(I0, I1)` with uint8 (H, W): returns float32 (H, W, 2), px.
    refusal : callable
        Called as `refusal(width, height)`: returns why cv2 cannot take frames of this size, "" where it can.
    """

    device: ClassVar[str] = "cpu"
    version: ClassVar[str] = f"OpenCV {cv2.__version__}"
    deviations: ClassVar[tuple[str, ...]] = ()
    # A pair takes 1 to 60 ms; the pipeline's own work for a call is a tenth of one.
    pairs_per_call: ClassVar[int] = 4

    name: str
    solve: Callable[[UInt8, UInt8], NDArray[np.float32]]
    refusal: Callable[[int, int], str] = lambda width, height: ""

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair, `threads` pairs at once.

        Parameters and result as in `flowkit.tvl1.engine.Solver.flow_batch`, of uint8 frames.

        Raises
        ------
        InvalidParameterError
            Frames or pairs of a wrong shape, dtype or range.
        BackendError
            Frames that cv2 cannot take.
        """
        grey, rows = check_batch(frames, pairs)
        if grey.dtype != np.uint8:
            raise InvalidParameterError(f"frames must be uint8 for method {self.name!r}, got {grey.dtype}")
        height, width = grey.shape[1:]
        if why := self.refusal(width, height):
            raise BackendError(f"method {self.name!r} cannot take frames of {width}x{height} px: {why}")
        out = np.empty((len(rows), 2, height, width), np.float32)

        def solve(index: int) -> None:
            first, second = rows[index]
            out[index] = np.moveaxis(self._solve_pair(grey[first], grey[second]), 2, 0)

        with one_cv2_thread(), ThreadPoolExecutor(max_workers=threads) as pool:
            # cv2 releases the GIL; iterating raises what a pair raised.
            for _ in (map if threads == 1 else pool.map)(solve, range(len(rows))):
                pass
        return out

    def _solve_pair(self, I0: UInt8, I1: UInt8) -> NDArray[np.float32]:
        try:
            return self.solve(I0, I1)
        except cv2.error as error:
            raise BackendError(
                f"method {self.name!r} failed on a pair of {I0.shape[1]}x{I0.shape[0]} px: {error}"
            ) from error
