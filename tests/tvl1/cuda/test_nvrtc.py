"""Every kernel configuration compiles for every architecture claimed, within limits."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.cuda_limits import FMA_KERNEL
from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.cuda import nvrtc as cuda_nvrtc
from flowkit.tvl1.cuda.cluster import cluster_shape
from flowkit.tvl1.cuda.device import THREADS
from flowkit.tvl1.cuda.modules import sources
from flowkit.tvl1.cuda.nvrtc import Nvrtc, library_paths, load_nvrtc
from flowkit.tvl1.cuda.plan import PUBLISHED, WHOLE, Model, TileShape

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# The least, one with clusters, the last: what is compiled for these needs no other's instructions.
SOME = (75, 90, 120)

# Those that are not the published one: the whole of it, and without weights.
MODELS = (WHOLE, Model(projected=True))

# File, macros, threads of a block: each source once for every architecture, its variants for some.
SOURCES = [
    ("pyramid.cu", {}, THREADS),
    ("level.cu", {}, THREADS),
    ("quantize.cu", {}, THREADS),
    ("tile.cu", TileShape().defines, 32 * TileShape().warps),
    ("weighted_median.cu", {"FLOWKIT_MEDIAN_SIDE": 5}, THREADS),
]
VARIANTS = [
    *(("tile.cu", {**TileShape().defines, **m.dual_defines}, 32 * TileShape().warps) for m in MODELS),
    ("level.cu", MODELS[0].warp_defines, THREADS),
    ("weighted_median.cu", {"FLOWKIT_MEDIAN_SIDE": 7}, THREADS),
]
CONFIGURATIONS = [*itertools.product(SOURCES, ARCHITECTURES), *itertools.product(VARIANTS, SOME)]

# The levels of 320x240 and 340x256 px, and the least.
CLUSTER_SIZES = [
    *((240, 320), (192, 256), (154, 205), (123, 164), (98, 131)),
    *((256, 340), (205, 272), (164, 218), (131, 174), (105, 139), (16, 16)),
]
# With levels of .75, those of the same frames.
CLUSTERS_OF_MODELS = [
    ((135, 180), MODELS[1]),
    ((240, 320), Model(carried=True)),
    *((size, MODELS[0]) for size in ((240, 320), (180, 240), (135, 180), (101, 135), (144, 191), (24, 32))),
]
SIZES = [*((size, PUBLISHED) for size in CLUSTER_SIZES), *CLUSTERS_OF_MODELS]
# All of them, and the largest and the least of each model for the next architecture with clusters.
ENDS = [each for each in SIZES if each[0] in {(240, 320), (16, 16), (135, 180), (24, 32)}]
CLUSTERS = [*((*each, 90) for each in SIZES), *((*each, 100) for each in ENDS)]
REGISTERS_OF_A_PROCESSOR = 65536
# Outside of the loop over iterations, as far as it is seen: constants of the launch.
MOST_SPILLED_BYTES = 32
# Of 128 registers a thread and two blocks a processor, the fastest on an H200 all the same; with a dual
# variable that outlives the launch, more is seen but once a level.
MOST_SPILLED_BYTES_OF_CLUSTERS = {False: 64, True: 144}
# Still blocks: the iteration that measures them, once a warp, has more at hand than registers hold.
MOST_SPILLED_BYTES_WITH_BLOCKS = 448
MOST_STATIC_SHARED_BYTES = 48 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KernelUsage:
    """Resources of one kernel: registers of a thread, bytes spilled, static shared bytes of a block."""

    registers: int
    spilled: int
    shared: int


def kernel_usage(log: str) -> dict[str, KernelUsage]:
    """Return registers, spills and shared memory of each kernel by the assembler's log."""
    usage = {}
    for part in log.split("Compiling entry function '")[1:]:
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        assert registers is not None, part[:200]
        usage[part.split("'")[0]] = KernelUsage(
            registers=int(registers[1]),
            spilled=max(map(int, spills.groups())) if spills else 0,
            shared=int(shared[1]) if shared else 0,
        )
    return usage


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    if not any(library_paths()):
        pytest.skip("no NVRTC here: the extra `test` installs it")
    return load_nvrtc()


@pytest.mark.parametrize(("configuration", "architecture"), CONFIGURATIONS)
def test_nvrtc_compiles_each_kernel_within_limits(
    configuration: tuple[str, dict[str, int], int], architecture: int, nvrtc: Nvrtc
) -> None:
    source, defines, threads = configuration
    compiled = nvrtc.compile(source, sources(), defines, architecture)
    assert compiled.cubin.startswith(b"\x7fELF")
    assert "warning" not in compiled.log
    usage = kernel_usage(compiled.log)
    assert usage
    for name, kernel in usage.items():
        assert kernel.registers * threads <= REGISTERS_OF_A_PROCESSOR, name
        assert kernel.spilled <= MOST_SPILLED_BYTES, name
        assert kernel.shared <= MOST_STATIC_SHARED_BYTES, name


@pytest.mark.parametrize(("size", "model", "architecture"), CLUSTERS)
def test_nvrtc_compiles_each_cluster_within_limits(
    size: tuple[int, int], model: Model, architecture: int, nvrtc: Nvrtc
) -> None:
    shape = cluster_shape(size, model)
    assert shape is not None
    compiled = nvrtc.compile("cluster.cu", sources(), shape.fitted(size).defines, architecture)
    assert "warning" not in compiled.log
    (kernel,) = kernel_usage(compiled.log).values()
    assert kernel.registers * 32 * shape.warps * shape.resident <= REGISTERS_OF_A_PROCESSOR
    most = MOST_SPILLED_BYTES_OF_CLUSTERS[model.carried]
    assert kernel.spilled <= (MOST_SPILLED_BYTES_WITH_BLOCKS if model.skipping else most)
    assert kernel.shared + shape.shared_bytes <= 227 * 1024


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_benchmarks_measure_of_the_issue_limit(architecture: int, nvrtc: Nvrtc) -> None:
    compiled = nvrtc.compile("fma.cu", {"fma.cu": FMA_KERNEL}, {}, architecture)
    (kernel,) = kernel_usage(compiled.log).values()
    assert kernel.spilled == 0
    assert kernel.registers <= 64


def test_nvrtc_names_the_line_that_does_not_compile(nvrtc: Nvrtc) -> None:
    with pytest.raises(BackendError, match=r"(?s)bad\.cu does not compile for sm_75.*bad\.cu\(1\)"):
        nvrtc.compile("bad.cu", {"bad.cu": "not CUDA"}, {}, 75)


def test_nvrtc_knows_every_architecture_claimed(nvrtc: Nvrtc) -> None:
    assert set(ARCHITECTURES) <= set(nvrtc.architectures())


def test_nvrtcs_log_is_read_kernel_by_kernel() -> None:
    log = "".join(
        f"ptxas info    : Compiling entry function '{name}' for 'sm_90'\n"
        f"    8 bytes stack frame, {spilled} bytes spill stores, 4 bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 1 barriers{shared}\n"
        for name, spilled, registers, shared in (("a", 8, 40, ", 17476 bytes smem"), ("b", 0, 9, ""))
    )
    assert kernel_usage(log) == {
        "a": KernelUsage(registers=40, spilled=8, shared=17476),
        "b": KernelUsage(registers=9, spilled=4, shared=0),
    }


def test_missing_nvrtc_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_nvrtc, "library_paths", lambda major: iter(()))
    with pytest.raises(BackendUnavailableError, match=r"libnvrtc of CUDA 13.*install nvidia-cuda-nvrtc"):
        load_nvrtc.__wrapped__(13)


def test_an_nvrtc_that_does_not_load_names_the_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libnvrtc.so.13"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(cuda_nvrtc, "library_paths", lambda major: itertools.repeat(broken, 1))
    with pytest.raises(BackendUnavailableError, match=r"libnvrtc\.so\.13: .*; install"):
        load_nvrtc.__wrapped__(13)


_BARE_NVRTC = """
#include <dlfcn.h>
extern "C" const char *nvrtcGetErrorString(int) { return "failed to open its builtins"; }
extern "C" int nvrtcVersion(int *major, int *minor) {
  *major = 13;
  *minor = 0;
  return dlopen("libnvrtc-builtins.so.13.0", RTLD_NOW) == nullptr;
}
"""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_nvrtc_finds_the_builtins_beside_it_without_a_path_of_its_own(tmp_path: Path) -> None:
    # As in the wheels of CUDA 13.0, which have no RPATH: every kernel failed to compile there.
    def build(name: str, text: str) -> None:
        source = tmp_path / "source.cpp"
        source.write_text(text)
        command = [str(COMPILER), "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(tmp_path / name)]
        subprocess.run([*command, str(source), "-ldl"], check=True)

    build("libnvrtc.so.13", _BARE_NVRTC)
    with pytest.raises(BackendError, match="failed to open its builtins"):
        Nvrtc(tmp_path / "libnvrtc.so.13")
    build("libnvrtc-builtins.so.13.0", "int none;")
    assert Nvrtc(tmp_path / "libnvrtc.so.13").version == "13.0"
