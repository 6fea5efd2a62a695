"""The engine's sources under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "flowkit" / "tvl1" / "native"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
FLAGS = [
    *("-std=c++17", "-O1", "-g1", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-Wall", "-Wextra", "-Werror", "-pthread"),
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
    "-DFLOWKIT_SEPARATE_PLANES",  # so that an access beyond a plane is found
]


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzz driver, built with all of the engine's sources and without a warning."""
    if COMPILER is None:
        pytest.skip("no C++ compiler here")
    program = tmp_path_factory.mktemp("native") / "fuzz"
    driver = Path(__file__).with_name("native_fuzz.cpp")
    sources = [str(path) for path in (*sorted(NATIVE.glob("*.cpp")), driver)]
    command = [COMPILER, *FLAGS, "-I", str(NATIVE), *sources, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_random_sizes_frames_and_flows_stay_inside_their_memory(fuzzer: Path, seed: int) -> None:
    command = [str(fuzzer), str(seed), "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 rounds, all sound" in done.stdout
