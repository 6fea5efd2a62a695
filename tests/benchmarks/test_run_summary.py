"""The table at the end of a run."""

from __future__ import annotations

from benchmarks.run_summary import MOST_LINES, table
from benchmarks.step_runner import Outcome, Step

STEP = Step(name="timing", seconds=9, command=())


def test_a_figure_stands_with_its_iterations() -> None:
    result = {
        "method": "tile",
        "size": "320x240",
        "stop": "eps .01",
        "pairs_per_second": 5210.4,
        "iterations_per_pair": 340.2,
        "pixel_iterations_per_pair": 13.04e6,
    }
    assert table([Outcome(step=STEP, ended="ok", seconds=12.3, results=[result])]).splitlines() == [
        "timing             ok             12.3 s",
        "    tile, 320x240, eps .01: 5210 pairs/s, 340 iterations and 13.04 M pixel-iterations a pair",
    ]


def test_failures_absences_and_last_lines_are_shown() -> None:
    outcomes = [
        Outcome(step=STEP, ended="failed", results=[{"method": "cluster", "failed": "GpuError: why"}]),
        Outcome(step=STEP, ended="absent", results=[{"absent": "no package"}]),
        Outcome(step=STEP, ended="ok", last_output="first\n=== 3 passed ==="),
    ]
    text = table(outcomes)
    assert "cluster: failed: GpuError: why" in text
    assert "absent: no package" in text
    assert "=== 3 passed ===" in text
    assert "first" not in text


def test_a_long_step_is_cut() -> None:
    results = [{"batch": k, "pairs_per_second": 1.0} for k in range(MOST_LINES + 3)]
    lines = table([Outcome(step=STEP, ended="ok", results=results)]).splitlines()
    assert len(lines) == MOST_LINES + 2
    assert lines[-1] == "    and 3 more"
