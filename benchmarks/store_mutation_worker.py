"""Try every command on damaged stores, each store in a forked process that may die, hang or grow.

    python -m benchmarks.store_mutation_worker BASES < lines of {"seed": S, "number": N, "only": ["verify"]}

Without `only` all commands run; `detail` adds what each found. One JSON line a mutation is written. This
process imports what commands need and starts no thread, so that it can fork; the child runs the commands one
after the other and reports each. A child that dies, passes the deadline of a command or
outgrows the bound of memory is replaced, and the next goes on after that command.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

from benchmarks import store_mutation_judge as judge
from benchmarks.record import ROOT, JsonObject
from benchmarks.store_mutation_commands import COMMANDS, RefusedError, Trial, digests
from benchmarks.store_values import Values
from flowkit import FlowkitError
from tests.make.store_bases import STORE, Base, load_bases
from tests.make.store_mutations import Mutant, mutant

DEADLINE_SECONDS = 10.0
"""Of the child's own processor time: a machine that does other work too makes no command hang."""
_WAIT_SECONDS = 6 * DEADLINE_SECONDS
"""Within which a command that only waits must end too."""
MEMORY_BOUND_BYTES = 1 << 30
_POLL_SECONDS = 0.02
_LAST_WORDS_SECONDS = 0.2
_MOST_LOST = 3
"""Children that one mutation may cost before its other commands are left out."""
_LINES = 12


def main() -> int:
    bases = load_bases(Path(sys.argv[1]))
    preload()
    sound: dict[str, judge.Sound] = {}
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        for line in sys.stdin:
            asked = json.loads(line)
            made = mutant(bases, asked["seed"], asked["number"])
            base = next(base for base in bases if base.name == made.base)
            if base.name not in sound:
                sound[base.name] = judge.sound_of(try_base(base, Path(folder)))
            results, intact = try_mutant(
                base, made, Path(folder), sound[base.name].values, asked.get("only", ())
            )
            verdict = judge.judge(made, base, sound[base.name], results, intact=intact)
            if asked.get("detail"):
                verdict["results"] = [without_values(result) for result in results]
            print(json.dumps(verdict), flush=True)
    return 0


def without_values(result: JsonObject) -> JsonObject:
    """Return a command's result without the values, of which there are hundreds."""
    return {name: value for name, value in result.items() if not name.endswith("values")}


def preload() -> None:
    """Import what the commands import when they run: each child would do so anew."""
    import flowkit.comparison.stores
    import flowkit.extraction.run
    import flowkit.rawframes.export
    import flowkit.video.writer
    import flowkit.view.page
    import flowkit.view.panels
    import flowkit_cli

    if "dataset" in COMMANDS:
        import flowkit.datasets.torch  # noqa: F401
    for name in flowkit_cli.COMMANDS:
        if name not in ("train", "eval", "predict", "report", "demo"):
            flowkit_cli.group.get_command(None, name)
    warnings.simplefilter("ignore")  # of missing shards, in thousands
    gc.freeze()  # a child's collections would visit, and so copy, all that was imported


def try_base(base: Base, folder: Path) -> list[JsonObject]:
    """Run all commands on a sound store."""
    work = Path(tempfile.mkdtemp(dir=folder))
    try:
        return try_trial(_trial(base, work, {}))
    finally:
        shutil.rmtree(work)


def try_mutant(
    base: Base, made: Mutant, folder: Path, expected: Values, only: Collection[str] = ()
) -> tuple[list[JsonObject], bool]:
    """Run all commands on a damaged store; return what each found, and whether they left the store alone."""
    work = Path(tempfile.mkdtemp(dir=folder))
    try:
        trial = _trial(base, work, expected)
        (trial.store.parent / made.file).write_bytes(made.data)
        before = digests(trial.store.parent)
        results = try_trial(trial, only)
        return results, digests(trial.store.parent) == before
    finally:
        shutil.rmtree(work)


def _trial(base: Base, work: Path, expected: Values) -> Trial:
    shutil.copytree(base.folder, work / "store")
    (work / "written").mkdir()
    return Trial(base=base, store=work / "store" / STORE, work=work / "written", expected=expected)


def try_trial(trial: Trial, only: Collection[str] = ()) -> list[JsonObject]:
    """Run all commands, or some, on the store of a trial; return what each found."""
    waiting, results, lost = [name for name in COMMANDS if not only or name in only], [], 0
    while waiting and lost < _MOST_LOST:
        done = _run_child(trial, waiting)
        results += done
        waiting = waiting[len(done) :]
        lost += bool(waiting)
    left_out = COMMANDS.keys() - {result["name"] for result in results}
    return [*results, *({"name": name, "outcome": "left out", "seconds": 0.0} for name in sorted(left_out))]


def _run_child(trial: Trial, names: Sequence[str]) -> list[JsonObject]:
    """Run commands in a forked child until one of them ends it; return what each found."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile("w+b") as log:
        child = os.fork()
        if not child:
            os.close(reader)
            _be_child(trial, names, writer, log)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            watch = _Watch(child, pipe, names)
            fault = watch.until_end()
        _, status = os.waitpid(child, 0)
        results = watch.results
        if len(results) < len(names):
            log.seek(0)
            text = _shortened(log.read().decode(errors="replace"))
            outcome = fault or "crash"
            died = "" if fault else f"ended with {os.waitstatus_to_exitcode(status)}: "
            seconds = round(watch.seconds, 4)
            lost = {"name": names[len(results)], "outcome": outcome, "text": died + text, "seconds": seconds}
            results.append(lost)
    return results


@dataclasses.dataclass
class _Watch:
    """Reads a child's reports, and ends it where a command takes too long or too much."""

    child: int
    pipe: IO[bytes]
    names: Sequence[str]

    def __post_init__(self) -> None:
        self.results: list[JsonObject] = []
        self._text = b""
        self._start()

    def _start(self) -> None:
        self.seconds = 0.0
        self._began, self._began_cpu = time.monotonic(), _cpu_seconds(self.child)
        self._base_bytes = _resident_bytes(self.child)

    def until_end(self) -> str:
        """Return `hang` or `memory` if the child was ended for it, else an empty string."""
        while True:
            if select.select([self.pipe], [], [], _POLL_SECONDS)[0]:
                data = os.read(self.pipe.fileno(), 1 << 16)
                if not data:
                    return ""
                self._take(data)
            fault = self._fault()
            if fault:
                os.kill(self.child, signal.SIGUSR1)  # it writes where it is
                select.select([], [], [], _LAST_WORDS_SECONDS)
                os.kill(self.child, signal.SIGKILL)
                return fault

    def _take(self, data: bytes) -> None:
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self.results.append(json.loads(line))
            self._start()

    def _fault(self) -> str:
        self.seconds = _cpu_seconds(self.child) - self._began_cpu
        if self.seconds > DEADLINE_SECONDS or time.monotonic() - self._began > _WAIT_SECONDS:
            return "hang"
        # Beyond the bound that a child itself reports: this one only keeps the machine alive.
        grown = _resident_bytes(self.child) - self._base_bytes
        return "memory" if grown > 2 * MEMORY_BOUND_BYTES else ""


def _be_child(trial: Trial, names: Sequence[str], writer: int, log: IO[bytes]) -> None:
    """Run the commands, report each, and end this process."""
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        os.chdir(trial.work)  # where a command without a name for its output writes
        faulthandler.enable(log.fileno())
        faulthandler.register(signal.SIGUSR1, log.fileno())
        for name in names:
            report = (json.dumps(run_command(trial, name)) + "\n").encode()
            while report:
                report = report[os.write(writer, report) :]
    finally:
        os._exit(0)


def run_command(trial: Trial, name: str) -> JsonObject:
    """Run a command in this process; return its outcome, processor time, memory and finds."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew from here
    base, began = _status_bytes("VmRSS"), time.process_time()
    result: JsonObject = {"name": name, "outcome": "ended"}
    try:
        result |= COMMANDS[name](trial)
    except (FlowkitError, RefusedError) as error:
        result |= {"outcome": "refused", "text": f"{type(error).__name__}: {error}"[:300]}
    except BaseException as error:  # whatever else comes out is what is looked for
        where = _innermost(error)
        result |= {"outcome": "traceback", "text": f"{type(error).__name__}: {str(error)[:500]} {where}"}
    result["seconds"] = round(time.process_time() - began, 4)
    result["memory_bytes"] = max(0, _status_bytes("VmHWM") - base)
    if result["memory_bytes"] > MEMORY_BOUND_BYTES and result["outcome"] != "traceback":
        result |= {"outcome": "memory", "text": f"{result['memory_bytes'] >> 20} MiB"}
    return result


def _innermost(error: BaseException) -> str:
    """Return the last lines of this checkout that the error passed."""
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT) and "benchmarks" not in frame.filename
    ]
    return "at " + " < ".join(reversed(frames[-4:]))


def _shortened(log: str) -> str:
    """Return the first lines of a dump of Python's stack, without the folder of this checkout."""
    start = max(log.find("Fatal Python error"), log.find("Thread 0x"), log.find("Current thread 0x"), 0)
    lines = log[start:].replace(f"{ROOT}/", "").splitlines()
    return "\n".join(lines[:_LINES])


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _cpu_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it has just ended
        return 0


if __name__ == "__main__":
    sys.exit(main())
