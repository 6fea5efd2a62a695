"""The steps of a run on a machine with a GPU, in the order of what would be missed most."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.record import python_path
from benchmarks.step_runner import Step

ALL_SECONDS = 400.0
RERUN_SECONDS = 60.0
"""Of a section of a second run."""

# A checker or a profiler slows the GPU a hundredfold: that is no sign of a fault.
PATIENT = {"FLOWKIT_GPU_PATIENCE": "600"}

# A bare machine lacks what other tests need, and its libraries have warnings of their own.
_PYTEST = (
    *("-m", "pytest", "-v", "-m", "gpu", "tests/tvl1/cuda/test_gpu.py", "--noconftest"),
    *("-p", "tests.tvl1.conftest", "-p", "no:cacheprovider", "-W", "default", "--durations", "5"),
)
# Several tiles; of the presets, those that have every kernel between them, the default first.
_CHECKED = (
    *("--size", "98x83", "--pairs", "2", "--iterations", "6"),
    *("--presets", "opencv-cuda", "opencv-cpu", "ipol"),
)
# One level: the finest. With a stopping rule that is never met all pairs stay at work, so that the first
# kernels of the second warp are: linearise from a flow, tiles, tiles with a test.
_PROFILED = ("--size", "320x240", "--pairs", "64", "--presets", "opencv-cuda", "--levels", "1", "--flow-only")
_NEVER_MET = ("--epsilon", "1e-9")
_FIRST_OF_SECOND_WARP = 5
_PYRAMIDS = ("--size", "320x240", "340x256")
_TWIN_SIZES = ("--size", "57x45", "320x240", "340x256", "--iterations", "20")


def section(name: str, seconds: float, *words: str) -> Step:
    """Return the step that runs a section."""
    return _python(name, seconds, "-m", "benchmarks.cuda_section", name, *words)


def _python(name: str, seconds: float, *words: str) -> Step:
    return Step(
        name=name,
        seconds=seconds,
        command=(sys.executable, *words),
        environment={"PYTHONPATH": python_path()},
    )


def _gate(name: str, seconds: float, chosen: str) -> Step:
    """Return the step of the tests that are marked gpu; a skip for want of a GPU is a failure."""
    return Step(
        name=name,
        seconds=seconds,
        command=(sys.executable, *_PYTEST, "-k", chosen),
        environment={"PYTHONPATH": python_path(), "FLOWKIT_REQUIRE_CUDA": "1"},
    )


def _tool(name: str, seconds: float, command: Sequence[str], *, advisory: bool = False) -> Step:
    """Return the step of a checker or profiler around benchmarks.cuda_small."""
    return Step(
        name=name,
        seconds=seconds,
        command=command,
        needs=command[0],
        advisory=advisory,
        environment={"PYTHONPATH": python_path(), **PATIENT},
    )


def _sanitizer(tool: str, seconds: float, words: Sequence[str], *, advisory: bool = False) -> Step:
    program = (sys.executable, "-m", "benchmarks.cuda_small", *_CHECKED, *words)
    # Barriers of a block, which the tool does not find by itself: without room for them it ends the kernel.
    options = ("--tool", tool, "--error-exitcode", "1", "--print-limit", "20", "--num-cuda-barriers", "64")
    return _tool(tool, seconds, ("compute-sanitizer", *options, *program), advisory=advisory)


def _ncu(method: str, seconds: float, kernels: str, launches: tuple[int, int], words: Sequence[str]) -> Step:
    program = (sys.executable, "-m", "benchmarks.cuda_small", *_PROFILED, "--methods", method, *words)
    options = ("--set", "full", "--clock-control", "none", "--kernel-name", f"regex:{kernels}")
    some = ("--launch-skip", str(launches[0]), "--launch-count", str(launches[1]))
    return _tool(f"ncu_{method}", seconds, ("ncu", *options, *some, *program))


def first_run_steps(words: Sequence[str] = (), small: Sequence[str] = ()) -> list[Step]:
    """Return the steps of the first run.

    Parameters
    ----------
    words : sequence of str
        Options of a workload, in place of each section's own.
    small : sequence of str
        Options of benchmarks.cuda_small, likewise.
    """
    return [
        section("environment", 20, *_PYRAMIDS, *words),
        section("pair_by_tiles", 10, *_TWIN_SIZES, *words),
        section("pair_by_clusters", 10, *_TWIN_SIZES, *words),
        section("timing", 60, *_PYRAMIDS, *words),
        _sanitizer("memcheck", 20, small),
        _sanitizer("synccheck", 15, small),
        _sanitizer("racecheck", 15, small, advisory=True),
        # A fault in a kernel fails all that its process does later: clusters by themselves.
        _gate("gate", 60, "not cluster"),
        _gate("gate_clusters", 30, "cluster"),
        _ncu(
            "tile",
            30,
            "flowkit_(linearise|tile)",
            (_FIRST_OF_SECOND_WARP, 3),
            (*_NEVER_MET, "--iterations", "20", *small),
        ),
        _ncu("cluster", 30, "flowkit_cluster", (0, 1), (*_NEVER_MET, "--iterations", "100", *small)),
        section("stages", 20, *words),
        section("tiles", 20, *words),
        section("extraction", 60, *words),
        section("baseline_opencv", 10, *words),
        section("baseline_raft", 30, *words),
        section("baseline_hardware", 10, *words),
    ]


def rerun_steps(names: Sequence[str], words: Sequence[str] = (), small: Sequence[str] = ()) -> list[Step]:
    """Return the steps of a second run: those of the first by name, and sections that it has not."""
    known = {step.name: step for step in first_run_steps(words, small)}
    return [known.get(name) or section(name, RERUN_SECONDS, *words) for name in names]


def step_names(sections: Sequence[str]) -> list[str]:
    """Return the names that `rerun_steps` takes, given those of all sections."""
    return list(dict.fromkeys([*(step.name for step in first_run_steps()), *sections]))
