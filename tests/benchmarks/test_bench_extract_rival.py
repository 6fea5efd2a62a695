"""Two checkouts against each other, here this one against itself, and the shim that times the solver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import solver_shim
from benchmarks.bench_extract_rival import (
    DECODE,
    OURS,
    OURS_ROAD,
    RIVAL,
    RIVAL_FAST,
    RIVAL_ROAD,
    STARTS,
    Extraction,
    Solved,
    after_start,
    decode_all,
    markdown,
    road,
    store_facts,
)
from benchmarks.cuda_extraction import write_clips
from benchmarks.harness import Seconds, table
from benchmarks.record import ROOT, JsonObject

SIZE = (48, 64)
FRAMES = 6


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    write_clips(tmp_path / "videos", SIZE, clips=1, frames=FRAMES)
    return list((tmp_path / "videos").iterdir())


def write_fields(path: Path, fields: NDArray[np.float32]) -> None:
    named = {f"{SIZE[0]}x{SIZE[1]}": fields}
    np.savez(path, **named)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_notes_the_solver_and_canned_flow_takes_its_place(clips: list[Path], tmp_path: Path) -> None:
    videos = clips[0].parent
    extraction = Extraction(ROOT, tmp_path / "a", ("--preset", "opencv-cuda"))
    facts = store_facts(extraction.work(videos))
    assert (facts["frames"], facts["fields"], facts["sizes"]) == (FRAMES, FRAMES - 1, [SIZE[::-1]])
    assert "opencv-cuda" in facts["options"]["tvl1_preset"]
    assert extraction.solved[0].pairs == FRAMES - 1
    assert extraction.solved[0].cpu_s > 0
    write_fields(tmp_path / "canned.npz", np.zeros((2, 2, *SIZE), np.float32))
    canned = Extraction(ROOT, tmp_path / "b", canned=tmp_path / "canned.npz")
    still = store_facts(canned.work(videos))
    assert canned.solved[0].pairs == FRAMES - 1
    assert still["flow_bytes"] < facts["flow_bytes"]


def made_report(frames: int) -> tuple[JsonObject, dict[str, Extraction]]:
    """Return a report of two rounds and the extractions it is of: ours takes half of the rival's time."""
    extractions = {}
    samples = {name: [Seconds(0.01, 0.01)] * 2 for name in (DECODE, *STARTS)}
    for name in (OURS, RIVAL, RIVAL_FAST, OURS_ROAD, RIVAL_ROAD):
        whole = 1.0 if name in (OURS, OURS_ROAD) else 2.0
        samples[name] = [Seconds(whole, whole)] * 2
        extractions[name] = Extraction.__new__(Extraction)
        warm, timed = (Solved(pairs=1, cpu_s=seconds) for seconds in (99.0, 0.6 * frames))
        extractions[name].solved = [warm, timed, timed]
    return {
        "cases": table(samples, {}, rivals=(RIVAL, RIVAL_FAST, RIVAL_ROAD, DECODE, STARTS[1]))
    }, extractions


def test_the_road_is_what_the_solver_leaves_of_each_round() -> None:
    report, extractions = made_report(frames=10)
    road(report["cases"], extractions, 10)
    assert report["cases"][OURS]["beside_solver_cpu_s"]["values"] == pytest.approx([0.4, 0.4])
    assert report["cases"][OURS]["beside_solver_ratio_to"][RIVAL]["median"] == pytest.approx(0.4 / 1.4)
    after_start(report["cases"], 10)
    assert report["cases"][OURS]["after_start_cpu_s"]["values"] == pytest.approx([0.399, 0.399])
    assert "ours / rival: CPU .5 (.5 to .5)" in markdown(report)


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
    write_fields(tmp_path / "canned.npz", fields)
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
