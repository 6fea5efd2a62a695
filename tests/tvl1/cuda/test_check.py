"""The check of a GPU, on an emulated one."""

from __future__ import annotations

import numpy as np
import pytest

from flowkit.errors import GpuError
from flowkit.tvl1.cuda import check
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda.check import TwinAgreement, compare_with_twin, kernel_resources
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, Fault, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


@needs_compiler
@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        (75, []),
        (90, ["flowkit_cluster"]),
    ],
)
def test_the_resources_are_those_of_the_kernels_that_this_gpu_runs(
    capability: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(capability=capability, clusters=3))
    device = cuda_device.open_device(0)
    found = list(kernel_resources(device))
    whole = ["flowkit_linearise, whole model", "flowkit_tile, whole model", "flowkit_weighted_median"]
    assert [kernel.name for kernel in found] == ["flowkit_linearise", "flowkit_tile", *whole, *expected]
    tile = found[1]
    # What the stand-in's driver says.
    assert (tile.threads, tile.registers, tile.spilled_bytes, tile.shared_bytes) == (512, 127, 0, 17408)
    assert tile.resident == 1
    assert all(kernel.resident == 3 for kernel in found[5:])
    assert all(kernel.shared_bytes > 17408 for kernel in found[5:])


@needs_compiler
def test_a_sound_gpu_agrees_with_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SIZE", (24, 32))
    install(monkeypatch, FakeGpu())
    found = compare_with_twin(0)
    assert found.good
    assert 0 < found.max_px < 1e-3


@needs_compiler
def test_device_fault_in_the_check_has_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SIZE", (24, 32))
    install(monkeypatch, FakeGpu(faults=[Fault(kind="status", kernel="flowkit_tile", after=3)]))
    with pytest.raises(GpuError, match="cudaErrorIllegalAddress"):
        compare_with_twin(0)


@pytest.mark.parametrize(("max_px", "equal"), [(6e-3, True), (np.nan, True), (1e-5, False)])
def test_a_gpu_that_is_off_or_not_finite_or_stops_elsewhere_does_not_agree(
    max_px: float, equal: bool
) -> None:
    assert not TwinAgreement(max_px=max_px, iterations_equal=equal).good
    assert TwinAgreement(max_px=1e-5, iterations_equal=True).good
