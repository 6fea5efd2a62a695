"""A check of one GPU in seconds: resources of the kernels as loaded, and one pair against the twin."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.cluster import ClusterShape, active_clusters, cluster_shape
from flowkit.tvl1.cuda.device import THREADS, CudaDevice, KernelFile
from flowkit.tvl1.cuda.plan import PUBLISHED, WHOLE, TileShape
from flowkit.tvl1.cuda.solver import load
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS
from flowkit.tvl1.reference.solver import tvl1_flow

AGREEMENT_PX = 5e-3
"""Largest difference from the twin: single precision in some 500 iterations, amplified where the data term
is weak."""

_SIZE = (96, 128)
_CLUSTER_LEVEL = (240, 320)

# CUfunction_attribute of the driver's interface.
_SHARED_BYTES, _LOCAL_BYTES, _REGISTERS = 1, 3, 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KernelResources:
    """Resources of a kernel as the driver loaded it.

    Attributes
    ----------
    name : str
    threads : int
        Of a block.
    registers, spilled_bytes : int
        Of a thread.
    shared_bytes : int
        Of a block.
    resident : int
        Blocks that a processor holds at once; of a cluster kernel, clusters that the GPU holds.
    """

    name: str
    threads: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    resident: int


def kernel_resources(device: CudaDevice) -> list[KernelResources]:
    """Return the resources of the kernels that take the time: compiled and loaded now.

    Those of the published model, then those of the whole one, whose names say so; clusters last.

    Raises
    ------
    GpuError
        The GPU failed, or refuses the code.
    BackendError
        The sources do not compile.
    """
    tile, threads = TileShape(), 32 * TileShape().warps
    found = []
    for model, suffix in ((PUBLISHED, ""), (WHOLE, ", whole model")):
        linearise = KernelFile.of("level.cu", model.warp_defines), "flowkit_linearise"
        iterate = KernelFile.of("tile.cu", {**tile.defines, **model.dual_defines}), "flowkit_tile"
        both = (resources(device, linearise, threads=THREADS), resources(device, iterate, threads=threads))
        found += [dataclasses.replace(each, name=each.name + suffix) for each in both]
    median = KernelFile.of("weighted_median.cu", {"FLOWKIT_MEDIAN_SIDE": 5}), "flowkit_weighted_median"
    found.append(resources(device, median, threads=THREADS))
    shape = cluster_shape(_CLUSTER_LEVEL)
    if device.has_clusters and shape is not None:
        found.append(cluster_resources(device, shape))
    return found


def resources(
    device: CudaDevice, kernel: tuple[KernelFile, str], *, threads: int, shared_bytes: int = 0
) -> KernelResources:
    """Return the resources of one kernel, with so many threads and bytes of dynamic shared memory a block.

    Raises
    ------
    BackendError
        As `kernel_resources`.
    """
    driver = device.cupy.cuda.driver
    with device.faults.boundary(), device.using():
        pointer = device.function(*kernel, shared_bytes=shared_bytes).ptr
        return KernelResources(
            name=kernel[1],
            threads=threads,
            registers=int(driver.funcGetAttribute(_REGISTERS, pointer)),
            spilled_bytes=int(driver.funcGetAttribute(_LOCAL_BYTES, pointer)),
            shared_bytes=int(driver.funcGetAttribute(_SHARED_BYTES, pointer)) + shared_bytes,
            resident=int(driver.occupancyMaxActiveBlocksPerMultiprocessor(pointer, threads, shared_bytes)),
        )


def cluster_resources(device: CudaDevice, shape: ClusterShape) -> KernelResources:
    """Return the resources of the cluster kernel of a shape; `resident` are clusters.

    Raises
    ------
    BackendError
        As `kernel_resources`, or a driver that knows no clusters.
    """
    found = resources(device, shape.kernel, threads=shape.threads, shared_bytes=shape.shared_bytes)
    with device.faults.boundary(), device.using():
        return dataclasses.replace(found, resident=active_clusters(device, shape))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TwinAgreement:
    """One pair on a GPU against the twin.

    Attributes
    ----------
    max_px : float
        Largest difference of a component, of all pairs solved; NaN where the GPU's flow is not finite.
    iterations_equal : bool
        Every warp of every level stopped at the twin's iteration.
    """

    max_px: float
    iterations_equal: bool

    @property
    def good(self) -> bool:
        """True if both agree within AGREEMENT_PX, with equal iterations."""
        return self.max_px <= AGREEMENT_PX and self.iterations_equal


def compare_with_twin(gpu: int, *, method: Method = "tile") -> TwinAgreement:
    """Solve one pair of 128x96 px on a GPU and by the twin, with the published model and the default preset.

    Parameters
    ----------
    gpu : int
    method : {"tile", "cluster"}

    Raises
    ------
    GpuError
        The GPU failed, or does not come to an end.
    """
    frames = np.stack([_waves((0, 0)), _waves((1.3, -0.8))])
    differences, equal = [], []
    for preset in ("opencv-cuda", DEFAULT_PRESET):
        solver = load(PRESETS[preset], gpu=gpu, method=method)
        flow, iterations = solver.flow_and_iterations(frames, [[0, 1]])
        twin = tvl1_flow(*frames, params=PRESETS[preset])
        differences.append(np.abs(flow[0] - twin.flow).max())
        expected = [level.iterations for level in twin.trace.levels]
        equal.append([tuple(level) for level in iterations[0].tolist()] == expected)
    return TwinAgreement(max_px=float(np.max(differences)), iterations_equal=all(equal))


def _waves(shift: tuple[float, float]) -> NDArray[np.float32]:
    """Return a texture of plane waves moved by (u, v) px, float32 in [0, 255]."""
    y, x = np.indices(_SIZE, dtype=np.float64)
    x, y = x - shift[0], y - shift[1]
    # Five directions, 9 to 29 px long.
    waves = (np.sin(2 * np.pi / (9 + 5 * k) * (np.cos(2.4 * k) * x + np.sin(2.4 * k) * y)) for k in range(5))
    image: NDArray[np.float32] = (127.5 + 25 * sum(waves)).astype(np.float32)
    return image
