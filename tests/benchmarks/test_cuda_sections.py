"""Every section and step in Python, rehearsed on the stand-in for cupy as a device would be called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda_section import SECTIONS
from benchmarks.record import ROOT
from tests.make.once import made_once
from tests.make.stand_in import stand_in_environment
from tests.tvl1.emulation.emulator import COMPILER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
]

SCRIPT = ROOT / "benchmarks" / "gpu_rerun.sh"
TINY = (
    *("--size", "42x22", "--pairs", "1", "--iterations", "2", "--copy-bytes", "4096"),
    *("--clips", "2", "3", "1", "--tile", "1x2x8x5", "--cluster", "42x22=2x1x4x6"),
)
SMALL = ("--small", "--size", "20x18", "--pairs", "1", "--iterations", "2", "--flow-only")
TOOLS = ("memcheck", "racecheck", "ncu_tile", "ncu_cluster")
# `gpu` is the first step of every run; the others are parts of `timing` and of `stages`.
NAMES = [*(name for name in SECTIONS if name not in ("gpu", "limits", "copies")), *TOOLS]
RIVALS = ("baseline_opencv", "baseline_raft", "baseline_hardware")

Results = dict[str, list[dict[str, Any]]]


def rerun(out: Path, *words: str, environment: dict[str, str]) -> tuple[int, Results, str]:
    """Return the exit status, the results by step, and the log."""
    done = subprocess.run(
        [SCRIPT, *words],
        env={**os.environ, "PYTHON": sys.executable, **environment, "OUT": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )
    results: Results = {}
    for line in (out / "rerun.jsonl").read_text().splitlines():
        result = json.loads(line)
        results.setdefault(result.pop("step"), []).append(result)
    return done.returncode, results, (out / "rerun.log").read_text() + done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flowkit's cache, which all runs share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that hides what a bare machine lacks, and has programs that run what they are given."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("av", "deflate", "simplejpeg"):
        (folder / f"{name}.py").write_text("raise ImportError('hidden')\n")
    for name in ("compute-sanitizer", "ncu"):
        program = folder / name
        program.write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift 2; done\nexec "$@"\n')
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def rehearsal(cache: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Results, str]:
    environment = stand_in_environment(cache, first=bare)
    environment["PATH"] = f"{bare}{os.pathsep}{os.environ['PATH']}"
    # Compilers and cores are shared here: limits are what other tests are about.
    words = ("--section", *NAMES, "--scale", "20", "--seconds", "600", *TINY, *SMALL)
    out = tmp_path_factory.mktemp("rerun")
    status, results, log = made_once(
        tmp_path_factory, "rehearsal", lambda: rerun(out, *words, environment=environment)
    )
    return status, results, log


@pytest.mark.parametrize("name", ["gpu", *NAMES])
def test_rehearsal_of_a_step_ends_well(name: str, rehearsal: tuple[int, Results, str]) -> None:
    status, results, log = rehearsal
    assert status == 0, log
    end = results[name][-1]
    assert end["ended"] == "absent" if name in RIVALS else end["ended"] == "ok", log
    assert not any("failed" in result for result in results[name])


def test_rehearsal_gives_iterations_beside_every_figure(
    rehearsal: tuple[int, Results, str],
) -> None:
    _, results, _ = rehearsal
    timed = [each for step in results.values() for each in step if "pairs_per_second" in each]
    assert len(timed) > 25
    for each in timed:
        assert each["iterations_per_pair"] > 0
        assert each["pixel_iterations_per_pair"] > each["iterations_per_pair"]


def test_rehearsal_has_the_use_of_every_kernel_and_cluster(
    rehearsal: tuple[int, Results, str],
) -> None:
    _, results, _ = rehearsal
    kernels = {each["kernel"]: each for each in results["environment"] if "kernel" in each}
    assert {"flowkit_tile", "flowkit_linearise", "flowkit_resample", "flowkit_largest"} <= set(kernels)
    assert all(each["resident"] for each in kernels.values())
    clusters = [each for each in results["environment"] if "cluster" in each]
    assert [(each["size"], each["cluster"]) for each in clusters] == [
        ("42x22", "2x2x12x1"),
        ("34x18", "2x2x11x1"),
        ("42x22", "2x1x4x6"),
    ]
    assert all(each["resident"] for each in clusters)


def test_rehearsal_of_both_solvers_agrees_with_the_twin(
    rehearsal: tuple[int, Results, str],
) -> None:
    _, results, _ = rehearsal
    by_tiles, by_clusters = results["pair_by_tiles"][0], results["pair_by_clusters"][0]
    assert by_tiles["levels_by_clusters"] == "0 of 2"
    assert by_clusters["levels_by_clusters"] == "2 of 2"
    assert max(by_tiles["max_px"], by_clusters["max_px"]) < 1e-3
    assert max(each.get("max_px_to_tiles", 0) for each in results["cluster_shapes"]) < 1e-3


def test_rehearsal_of_an_extraction_names_what_is_absent(
    rehearsal: tuple[int, Results, str],
) -> None:
    _, results, _ = rehearsal
    libraries, *turns, _ = results["extraction"]
    assert set(libraries["libraries"].values()) == {"absent: hidden"}
    assert [turn["decoder"] for turn in turns] == ["opencv", "opencv"]
    assert [turn["pairs"] for turn in turns] == [4, 4]


def test_cluster_that_hangs_costs_the_tiles_nothing(cache: Path, tmp_path: Path) -> None:
    faults = json.dumps([[{"kind": "hang", "kernel": "flowkit_cluster"}]])
    environment = {**stand_in_environment(cache, faults=faults), "FLOWKIT_GPU_PATIENCE": "1"}
    names = ("pair_by_clusters", "timing", "pair_by_tiles")
    status, results, log = rerun(tmp_path, "--section", *names, *TINY, environment=environment)
    assert status == 1, log
    failed, end = results["pair_by_clusters"]
    assert "GpuLostError" in failed["failed"]
    assert "flowkit_cluster of level 0" in failed["failed"]
    assert end["ended"] == "failed"
    timed = [each for each in results["timing"] if "method" in each]
    assert [each["method"] for each in timed if "failed" not in each] == ["tile", "tile"]
    assert results["pair_by_tiles"][-1]["ended"] == "ok"
