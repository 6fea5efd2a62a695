"""Steps with time limits: none costs another anything, and none leaves a process behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import step_runner
from benchmarks.step_runner import Outcome, Record, Step, exit_status, marked, run_steps

# The limit's end: a traceback, the killing and a look at /proc.
END_SECONDS = 4.0


def program(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", textwrap.dedent(code)


SLEEPING_CHILD = """
import json, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleep, start_new_session=True)
print(json.dumps({"child": child.pid}), flush=True)
"""
HANG = """
def where_it_hangs():
    time.sleep(600)
where_it_hangs()
"""

WELL = Step(name="well", seconds=20, command=program("""print('{"figure": 1}')"""))
FAILING = Step(name="failing", seconds=20, command=program("import sys; sys.exit('the reason')"))
# Its child has a session of its own, as the servers of the GPUs have.
HANGING = Step(name="hanging", seconds=2, command=program(SLEEPING_CHILD + HANG))


def run(folder: Path, *steps: Step, seconds: float = 60) -> list[Outcome]:
    with Record(folder, "run") as record:
        return list(run_steps(steps, record, seconds))


def results(folder: Path, step: str) -> list[dict[str, Any]]:
    lines = (folder / "run.jsonl").read_text().splitlines()
    return [result for result in map(json.loads, lines) if result["step"] == step]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_hanging_steps_grandchild_with_a_session_of_its_own_dies_and_the_next_step_runs(
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    outcomes = run(tmp_path, HANGING, WELL)
    assert time.monotonic() - began < HANGING.seconds + END_SECONDS
    assert [outcome.ended for outcome in outcomes] == ["at its limit", "ok"]
    assert exit_status(outcomes) == 1
    first, end = results(tmp_path, "hanging")
    assert not is_alive(first["child"])
    assert (end["ended"], end["status"]) == ("at its limit", -6)
    assert results(tmp_path, "well")[0]["figure"] == 1
    # The log has where it was.
    assert "in where_it_hangs" in (tmp_path / "run.log").read_text()


def test_a_process_that_a_step_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, Step(name="leaving", seconds=20, command=program(SLEEPING_CHILD)))
    assert outcome.ended == "ok"
    assert not is_alive(results(tmp_path, "leaving")[0]["child"])


def test_a_failing_step_gives_status_1_and_its_last_output_is_a_result(tmp_path: Path) -> None:
    outcomes = run(tmp_path, FAILING, WELL)
    assert [outcome.ended for outcome in outcomes] == ["failed", "ok"]
    assert exit_status(outcomes) == 1
    (end,) = results(tmp_path, "failing")
    assert end["last_output"] == "the reason"


def test_what_is_absent_or_advisory_leaves_the_status_alone(tmp_path: Path) -> None:
    tool = Step(name="tool", seconds=5, command=("no-such-program", "--all"), needs="no-such-program")
    says_so = Step(name="says_so", seconds=20, command=program("""print('{"absent": "no package"}')"""))
    advisory = Step(name="advisory", seconds=20, command=FAILING.command, advisory=True)
    outcomes = run(tmp_path, tool, says_so, advisory)
    assert [outcome.ended for outcome in outcomes] == ["absent", "absent", "failed"]
    assert exit_status(outcomes) == 0
    assert results(tmp_path, "tool") == [{"step": "tool", "absent": "no no-such-program here"}]


def test_a_step_for_which_no_time_is_left_is_named(tmp_path: Path) -> None:
    outcomes = run(tmp_path, HANGING, WELL, seconds=1.5)
    assert [outcome.ended for outcome in outcomes] == ["at its limit", "not run"]
    assert results(tmp_path, "well") == [{"step": "well", "not_run": "no time was left"}]


def test_a_program_that_does_not_start_fails_its_step_alone(tmp_path: Path) -> None:
    outcomes = run(tmp_path, Step(name="missing", seconds=5, command=("no-such-program",)), WELL)
    assert [outcome.ended for outcome in outcomes] == ["failed", "ok"]
    assert "no-such-program" in results(tmp_path, "missing")[0]["last_output"]


def test_lines_that_are_no_results_and_those_of_standard_error_are_logged(tmp_path: Path) -> None:
    code = """
        import sys
        print('{not json')
        print('{"figure": 2}')
        print('{"figure": 3}', file=sys.stderr)
        print('no newline', end='')
        """
    (outcome,) = run(tmp_path, Step(name="mixed", seconds=20, command=program(code)))
    assert outcome.results == [{"figure": 2}]
    log = (tmp_path / "run.log").read_text().splitlines()
    assert {"{not json", '{"figure": 2}', '{"figure": 3}', "no newline"} <= set(log)


def test_the_log_of_a_step_that_says_too_much_keeps_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_runner, "LOG_BYTES", 1000)
    code = "for k in range(1000): print('line', k)"
    run(tmp_path, Step(name="long", seconds=20, command=program(code)))
    log = (tmp_path / "run.log").read_text().splitlines()
    assert len(log) < 200
    assert "line 0" in log
    assert "line 999" in log


def test_files_are_appended_to(tmp_path: Path) -> None:
    run(tmp_path, WELL)
    run(tmp_path, WELL)
    assert sum("figure" in result for result in results(tmp_path, "well")) == 2


def test_processes_with_a_mark_are_found_and_this_one_is_not() -> None:
    mark = "FLOWKIT_STEP_of_this_test"
    code = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, mark: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert marked(mark) == [child.pid]
        assert marked(f"{mark}_") == []
        child.communicate(b"\n")
    assert marked("PATH")
    assert os.getpid() not in marked("PATH")
