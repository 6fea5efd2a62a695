"""State that one level passes to the next: the flow and, with `dual_start="coarser"`, the dual variable."""

from __future__ import annotations

import dataclasses

from flowkit.tvl1.cuda.device import DeviceArray


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LevelState:
    """The flow of every pair of a batch on one level, and q behind it in the same memory.

    One launch resamples both (twin: `reference.solver.State`).

    Parameters
    ----------
    planes : float32 device array, (2 m, height, width) or (6 m, height, width)
        u of each pair, then q of each pair, if it is passed on.
    pairs : int
        m.
    """

    planes: DeviceArray
    pairs: int

    @property
    def flow(self) -> DeviceArray:
        """u, (m, 2, height, width), px of the level."""
        return self.planes[: 2 * self.pairs].reshape(self.pairs, 2, *self.planes.shape[1:])

    @property
    def dual(self) -> DeviceArray | None:
        """The x and y components of q = theta p for u1, then u2, (m, 4, height, width), or None."""
        if len(self.planes) == 2 * self.pairs:
            return None
        return self.planes[2 * self.pairs :].reshape(self.pairs, 4, *self.planes.shape[1:])
