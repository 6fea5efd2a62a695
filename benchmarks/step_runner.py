"""Steps that must not cost one another anything: each a process tree with a time limit of its own.

A step's results (lines of JSON on its standard output) and all of its output are written as they come,
so that a step that is stopped, or a machine that is taken away, leaves what was there by then.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from benchmarks.record import ROOT, JsonObject

Ended = Literal["ok", "failed", "at its limit", "absent", "not run"]

LOG_BYTES = 2_000_000
"""Of one step's output that the log keeps whole; of the rest the last lines."""

_LAST_LINES = 12
_POLL_SECONDS = 0.05
_LEAST_SECONDS = 1.0
_TRACEBACK_SECONDS = 0.5
_END_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A command with a time limit.

    Parameters
    ----------
    name : str
    seconds : float
        Its limit.
    command : sequence of str
    needs : str
        A program without which the step is absent; "" for none.
    advisory : bool
        Whether its failure leaves the exit status alone.
    environment : mapping
        Variables on top of this process's own.
    """

    name: str
    seconds: float
    command: Sequence[str]
    needs: str = ""
    advisory: bool = False
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of a step, and its results."""

    step: Step
    ended: Ended
    seconds: float = 0.0
    results: Sequence[JsonObject] = ()
    last_output: str = ""


class Record:
    """The two files of a run, NAME.jsonl and NAME.log in `folder`: appended to, flushed at every line."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = folder / f"{name}.jsonl", folder / f"{name}.log"
        self._results, self._log = (path.open("a", errors="replace") for path in self.paths)

    def result(self, step: str, result: JsonObject) -> None:
        """Append a result as one line."""
        self._results.write(json.dumps({"step": step, **result}) + "\n")
        self._results.flush()

    def log(self, line: str) -> None:
        """Append a line to the log."""
        self._log.write(line + "\n")
        self._log.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._results.close()
        self._log.close()


class _Output:
    """A file that a step's processes write to, read line by line as it grows."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor, self._offset, self._rest = file.fileno(), 0, b""

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """Yield the lines that are complete; with `last` also the one that is not."""
        # The offset of the descriptor belongs to the writers.
        while block := os.pread(self._descriptor, 1 << 16, self._offset):
            self._offset += len(block)
            *whole, self._rest = (self._rest + block).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if last and self._rest:
            yield self._rest.decode(errors="replace")


class _Journal:
    """Takes a step's lines: results from standard output, everything to the log, within LOG_BYTES."""

    def __init__(self, step: str, record: Record) -> None:
        self._step, self._record, self._bytes = step, record, 0
        self.results: list[JsonObject] = []
        self.last: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

    def take(self, line: str, *, is_output: bool) -> None:
        result = _as_result(line) if is_output else None
        if result is not None:
            self.results.append(result)
            self._record.result(self._step, result)
        elif line.strip():
            self.last.append(line)
        self._bytes += len(line)
        if self._bytes <= LOG_BYTES:
            self._record.log(line)

    def close(self) -> None:
        if self._bytes > LOG_BYTES:
            self._record.log(f"[{self._bytes - LOG_BYTES} characters left out; the last lines:]")
            for line in self.last:
                self._record.log(line)


def _as_result(line: str) -> JsonObject | None:
    if not line.startswith("{"):
        return None
    try:
        result: JsonObject = json.loads(line)
    except ValueError:
        return None
    return result


def run_step(step: Step, record: Record, limit: float) -> Outcome:
    """Run a step to its end or its limit; none of its processes is left afterwards."""
    if step.needs and not find_program(step.needs):
        return Outcome(step=step, ended="absent", last_output=f"no {step.needs} here")
    record.log(f"== {step.name}, at most {limit:.0f} s: {' '.join(step.command)}")
    # A process of a hung driver cannot be killed: it must not hold a pipe that is waited for.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        return _run(step, record, limit, (out, err))


def _run(step: Step, record: Record, limit: float, files: tuple[IO[bytes], IO[bytes]]) -> Outcome:
    # A variable of this step alone: its processes have it also where they began sessions of their own.
    mark = f"FLOWKIT_STEP_{uuid.uuid4().hex}"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **step.environment}
    journal, streams, began = _Journal(step.name, record), [_Output(file) for file in files], time.monotonic()
    try:
        process = _start(step, {**environment, mark: "1"}, files)
    except OSError as error:
        record.result(step.name, {"ended": "failed", "last_output": str(error)})
        return Outcome(step=step, ended="failed", last_output=str(error))

    def copy(*, last: bool = False) -> None:
        for stream in streams:
            for line in stream.lines(last=last):
                journal.take(line, is_output=stream is streams[0])

    in_time = False
    try:
        while not (in_time := _has_ended(process.pid)) and time.monotonic() - began < limit:
            time.sleep(_POLL_SECONDS)
            copy()
    finally:
        stuck = end_tree(mark, process.pid, ask_where=not in_time)
        copy(last=True)
        journal.close()
    status = process.poll()
    ended: Ended = "at its limit" if not in_time else "failed" if status else "ok"
    if ended == "ok" and journal.results and all("absent" in result for result in journal.results):
        ended = "absent"
    outcome = Outcome(
        step=step,
        ended=ended,
        seconds=time.monotonic() - began,
        results=journal.results,
        last_output="\n".join(journal.last),
    )
    _note_end(record, outcome, {"limit": limit, "status": status}, stuck)
    return outcome


def _start(
    step: Step, environment: Mapping[str, str], files: tuple[IO[bytes], IO[bytes]]
) -> subprocess.Popen[bytes]:
    program = find_program(step.command[0]) or step.command[0]
    return subprocess.Popen(
        [program, *step.command[1:]],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=files[0],
        stderr=files[1],
        env=environment,
        start_new_session=True,
    )


def _note_end(record: Record, outcome: Outcome, facts: JsonObject, stuck: Sequence[int]) -> None:
    """Write the result that ends a step."""
    end: JsonObject = {"ended": outcome.ended, "seconds": round(outcome.seconds, 2), **facts}
    if outcome.ended in ("failed", "at its limit"):
        end["last_output"] = outcome.last_output
    elif not outcome.results:  # the sum of a program of its own, such as pytest
        end["last_line"] = outcome.last_output.rpartition("\n")[2]
    if stuck:
        end["processes_that_do_not_end"] = stuck
    record.result(outcome.step.name, end)
    status, seconds = facts["status"], outcome.seconds
    record.log(f"== {outcome.step.name}: {outcome.ended}, status {status}, {seconds:.1f} s\n")


def find_program(name: str) -> str | None:
    """Return the path of a program: of PATH, of a CUDA toolkit or of Nsight Compute's own folder."""
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
    nsight = sorted(Path("/opt/nvidia/nsight-compute").glob("*"), reverse=True)
    return shutil.which(name, path=os.pathsep.join(map(str, (os.environ.get("PATH", ""), toolkit, *nsight))))


def _has_ended(pid: int) -> bool:
    """Return whether a child has ended, and leave it a zombie: its group keeps its number until then."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def marked(mark: str) -> list[int]:
    """Return the processes, other than this one, that have a variable in their environment."""
    wanted, found = f"{mark}=".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            # It may have ended, or be another user's.
            with contextlib.suppress(OSError):
                variables = (folder / "environ").read_bytes().split(b"\0")
                if any(variable.startswith(wanted) for variable in variables):
                    found.append(int(folder.name))
    return found


def end_tree(mark: str, group: int, *, ask_where: bool = False) -> list[int]:
    """Kill the processes with a mark and those of a group of ours; return those that do not end.

    Parameters
    ----------
    mark : str
        Name of the variable.
    group : int
        The child that leads it, not waited for yet; it is waited for here.
    ask_where : bool
        Have Python's fault handler write each thread's traceback first.
    """
    if ask_where:
        _signal(marked(mark), signal.SIGABRT)
        time.sleep(_TRACEBACK_SECONDS)
    ends = time.monotonic() + _END_SECONDS
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        alive = marked(mark)
        _signal(alive, signal.SIGKILL)
        if (not alive and _has_ended(group)) or time.monotonic() > ends:
            break
        time.sleep(_POLL_SECONDS)
    return alive


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def run_steps(steps: Sequence[Step], record: Record, seconds: float) -> Iterator[Outcome]:
    """Run steps in turn within `seconds` together; whatever one does, the next one follows."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ends = time.monotonic() + seconds
    for step in steps:
        limit = min(step.seconds, ends - time.monotonic())
        if limit < min(_LEAST_SECONDS, step.seconds):
            outcome = Outcome(step=step, ended="not run", last_output="no time was left")
        else:
            outcome = run_step(step, record, limit)
        if outcome.ended in ("absent", "not run") and not outcome.results:
            record.result(step.name, {outcome.ended.replace(" ", "_"): outcome.last_output})
        print(f"{step.name}: {outcome.ended}, {outcome.seconds:.1f} s", flush=True)
        yield outcome


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """Return 0 where every step ended well or is absent, or may fail; else 1."""
    good = ("ok", "absent")
    return int(any(outcome.ended not in good and not outcome.step.advisory for outcome in outcomes))
