"""The script of the first run where there is no GPU, and on a stand-in for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda_section import SECTIONS
from benchmarks.gpu_steps import ALL_SECONDS, first_run_steps, rerun_steps, step_names
from benchmarks.record import ROOT
from tests.make.stand_in import stand_in_environment
from tests.tvl1.emulation.emulator import COMPILER

SCRIPT = ROOT / "benchmarks" / "gpu_first_run.sh"
NO_GPU_SECONDS = 20.0
"""A process that imports the engine, on a busy core."""


def first_run(
    out: Path, *words: str, environment: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    done = subprocess.run(
        [SCRIPT, *words],
        cwd=out.parent,
        env={**os.environ, "PYTHON": sys.executable, **environment, "OUT": out.name},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert sorted(path.name for path in out.iterdir()) == ["first_run.jsonl", "first_run.log"]
    return done, [json.loads(line) for line in (out / "first_run.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise ImportError('none here')", "cupy does not import (none here)"),
        (
            "class CUDARuntimeError(RuntimeError): pass\n"
            "def count(): raise CUDARuntimeError('no driver here')\n"
            "import types\n"
            "runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)\n"
            "cuda = types.SimpleNamespace(runtime=runtime)",
            "no usable GPU: no driver here",
        ),
        (
            "import types\n"
            "runtime = types.SimpleNamespace(getDeviceCount=lambda: 0, CUDARuntimeError=RuntimeError)\n"
            "cuda = types.SimpleNamespace(runtime=runtime)",
            "CUDA shows no GPU to this process",
        ),
    ],
    ids=["no cupy", "no driver", "no device"],
)
def test_without_a_gpu_it_says_so_in_seconds_with_status_2(module: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text(module)
    began = time.monotonic()
    done, results = first_run(tmp_path / "out", environment={"PYTHONPATH": str(tmp_path)})
    assert time.monotonic() - began < NO_GPU_SECONDS
    assert done.returncode == 2, done.stderr
    assert reason in done.stdout
    circumstances, no_gpu, end = results
    assert circumstances["step"] == "circumstances"
    assert {"date", "cpu", "packages"} <= set(circumstances)
    assert reason in no_gpu["no_gpu"]
    assert end["ended"] == "ok"


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
def test_with_a_gpu_every_step_asked_for_is_run_and_named(tmp_path: Path) -> None:
    # A twentieth of the time: the environment may come to its limit, and the others follow.
    words = ("--seconds", "40", "--steps", "memcheck", "baseline_opencv")
    environment = {**stand_in_environment(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    done, results = first_run(tmp_path / "out", *words, environment=environment)
    ends = {result["step"]: result for result in results if "ended" in result or "absent" in result}
    assert set(ends) == {"environment", "memcheck", "baseline_opencv"}
    assert ends["memcheck"] == {"step": "memcheck", "absent": "no compute-sanitizer here"}
    assert any(result.get("gpu") == "Emulated GPU" for result in results)
    ok = all("absent" in end or end["ended"] in ("ok", "absent") for end in ends.values())
    assert done.returncode == (0 if ok else 1)
    table = done.stdout.splitlines()[3:]
    assert [line.split()[0] for line in table if line[:1].strip()][:3] == [*ends]


def test_the_limits_leave_time_for_what_comes_last() -> None:
    steps = first_run_steps()
    assert len({step.name for step in steps}) == len(steps)
    assert ALL_SECONDS <= sum(step.seconds for step in steps) < 1.2 * ALL_SECONDS


def test_a_second_run_knows_every_step_and_every_section() -> None:
    names = step_names(list(SECTIONS))
    assert {"gate", "ncu_cluster", "presets", "cluster_shapes"} <= set(names)
    assert [step.name for step in rerun_steps(names)] == names
