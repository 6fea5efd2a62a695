"""Two checkouts against each other, here this one against itself, and the shim that times the solver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import solver_shim
from benchmarks.bench_extract_rival import (
    DECODE,
    OURS,
    OURS_ROAD,
    RIVAL_FAST,
    RIVAL_ROAD,
    Extraction,
    decode_all,
    markdown,
    measure,
)
from benchmarks.cuda_extraction import write_clips
from benchmarks.record import ROOT

SIZE = (48, 64)
FRAMES = 6


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    write_clips(tmp_path / "videos", SIZE, clips=1, frames=FRAMES)
    return list((tmp_path / "videos").iterdir())


@pytest.mark.slow
def test_a_checkout_against_itself_has_equal_stores_and_a_road(clips: list[Path], tmp_path: Path) -> None:
    report = measure(ROOT, clips, tmp_path, rounds=1)
    rows = report["cases"]
    assert rows[OURS]["fields"] == rows[RIVAL_FAST]["fields"] == FRAMES - 1
    assert rows[OURS]["flow_bytes"] == rows[RIVAL_FAST]["flow_bytes"] > 0
    assert rows[OURS_ROAD]["flow_bytes"] == rows[RIVAL_ROAD]["flow_bytes"] > 0
    assert 0 < rows[OURS]["solver_cpu_s"]["median"] < rows[OURS]["cpu_s"]["median"]
    assert rows[OURS_ROAD]["beside_solver_ratio_to"][RIVAL_ROAD]["median"] > 0
    assert DECODE in markdown(report)


def test_every_frame_is_decoded(clips: list[Path]) -> None:
    assert decode_all(clips) == FRAMES


def test_a_run_of_another_checkouts_code_or_with_threads_is_refused(tmp_path: Path) -> None:
    extraction = Extraction(ROOT, tmp_path / "a")
    log = tmp_path / "a" / "solver.log"
    log.write_text(f"8 0.5 1 {ROOT}/flowkit/tvl1/cpu.py\n5 0.25 1 {ROOT}/flowkit/tvl1/cpu.py\n")
    assert (extraction._read_log().pairs, extraction._read_log().cpu_s) == (13, 0.75)
    for line in ("8 0.5 1 /elsewhere/cpu.py", f"8 0.5 2 {ROOT}/flowkit/tvl1/cpu.py"):
        log.write_text(f"{line}\n")
        with pytest.raises(SystemExit, match="not one thread of the engine"):
            extraction._read_log()


def test_canned_flow_goes_round(tmp_path: Path) -> None:
    fields = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1) + np.zeros((1, 2, *SIZE), np.float32)
    np.savez(tmp_path / "canned.npz", **{"48x64": fields})
    solve = solver_shim.canned(str(tmp_path / "canned.npz"))
    frames = np.zeros((5, *SIZE), np.uint8)
    assert solve(None, frames, [[0, 1]] * 4)[:, 0, 0, 0].tolist() == [0, 1, 2, 0]
    assert solve(None, frames, [[0, 1]])[0, 0, 0, 0] == 1


def test_a_logged_solver_gives_the_same_and_a_line_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(solver_shim.LOG, str(tmp_path / "log"))

    def solve(self: object, frames: Any, pairs: Any, *, threads: int = 1) -> Any:
        return frames + len(pairs)

    logged = solver_shim.logged(solve, "engine.py")
    assert logged(None, 1, [[0, 1]] * 2, threads=3) == 3
    pairs, _, threads, file = (tmp_path / "log").read_text().split()
    assert (pairs, threads, file) == ("2", "3", "engine.py")


def test_the_shim_leaves_other_modules_alone() -> None:
    assert solver_shim.Finder.find_spec("json") is None
    assert solver_shim.Finder not in sys.meta_path
