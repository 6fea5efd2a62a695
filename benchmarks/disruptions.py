"""A disturbed extraction: started as a command, watched, repeated undisturbed, and judged.

`disruption_scenarios` has what is done to it, `disruption_campaign` the command that goes through them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

import flowkit
from benchmarks.record import ROOT, JsonObject
from tests.make import clips

Word: TypeAlias = str | Path

VIDEOS = 8
LIMIT_S = 180
"""A command that takes longer hangs: undisturbed it takes 2 to 6 s."""
LEFT_S = 30
"""Processes of a command that are there for longer after its end are left behind."""
OPTIONS = ("--jobs", "2", "--quiet", "--backend", "opencv", "--flow-codec", "i16", "--jpeg-quality", "100")
SHARDS = ("--shard-size", "1M")
"""The least; the options above make the store larger than that."""


def make_videos(folder: Path, count: int = VIDEOS) -> Path:
    """Write videos of 8 to 40 frames; return their folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        frames = clips.moving_texture((8, 14, 8, 40)[number % 4], height=48, width=64, seed=number)
        noise = np.random.default_rng(number).integers(0, 128, frames.shape, np.uint8)
        frames = frames // 2 + noise  # which JPEG cannot make small
        clips.mjpeg_avi(folder / f"v{number}.avi", frames)
    return folder


def environment(links: Path) -> dict[str, str]:
    """Return an environment in which `python -m flowkit_cli` is this checkout's command."""
    links.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (links / "flowkit_cli").symlink_to(ROOT / "cli")
    return {**os.environ, "PYTHONPATH": f"{links}{os.pathsep}{ROOT}"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """Status, output and duration of a command that ended."""

    status: int
    """Negative: the signal that ended it."""
    stderr: str
    stored: frozenset[str]
    """Ids of the videos that it reported as stored."""
    seconds: float
    hung: bool = False

    @property
    def last(self) -> str:
        """The last line on standard error."""
        return (self.stderr.strip().splitlines() or [""])[-1]


def _prepare(before: Callable[[], None] | None) -> None:
    """Let Ctrl-C through, which a shell's background commands ignore, and so those that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if before is not None:
        before()


class Running:
    """A command that runs in a group of processes of its own, its output in files.

    Parameters
    ----------
    words
        The command.
    env
        Its environment.
    log
        Where its output goes: two files with this path's name and a suffix.
    before
        Called in the process before the command starts, such as for limits.
    """

    def __init__(
        self,
        words: Sequence[Word],
        *,
        env: Mapping[str, str],
        log: Path,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.out, self.err, self._began = log.with_suffix(".out"), log.with_suffix(".err"), time.monotonic()
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdout=out,
                stderr=err,
                env=env,
                process_group=0,
                preexec_fn=functools.partial(_prepare, before),
            )

    def stored(self) -> frozenset[str]:
        """Return the ids that the command has reported as stored up to now."""
        rows = (json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}"))
        return frozenset(row["video_id"] for row in rows if row["status"] == "stored")

    def wait_for(self, store: Path, *, rows: int, delay_s: float) -> None:
        """Wait until so many videos are reported, with 0 until the run has begun, and then a while."""
        parts = store.with_name(f"{store.name}.parts")
        while self.process.poll() is None and time.monotonic() - self._began < LIMIT_S:
            if len(self.stored()) >= rows and (rows or parts.exists()):
                break
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(delay_s)

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [pid for pid, line in self.family().items() if "spawn_main" in line]

    def family(self) -> dict[int, str]:
        """Return the processes of the command's group and their command lines; zombies are none."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.process.pid and fields[0] != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text()
        return found

    def end(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for the end; a command that takes longer is killed."""
        hung = False
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            hung = True
            self.kill()
            self.process.wait()
        return Ended(
            status=self.process.returncode,
            stderr=self.err.read_text(errors="replace"),
            stored=self.stored(),
            seconds=round(time.monotonic() - self._began, 2),
            hung=hung,
        )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to every process of the command."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def left(self) -> int:
        """Return how many processes stay for longer than `LEFT_S`; they are killed."""
        until = time.monotonic() + LEFT_S
        while (count := len(self.family())) and time.monotonic() < until:
            time.sleep(0.05)
        self.kill()
        return count


@dataclasses.dataclass(kw_only=True)
class Case:
    """One disturbed extraction: its folders, its options and its chance.

    Attributes
    ----------
    folder
        A new folder; the store is in `work` in it and the videos in `videos`.
    reference
        The undisturbed store.
    shims
        Folder of the compiled shims.
    """

    folder: Path
    reference: Path
    shims: Path
    random: random.Random
    words: tuple[Word, ...] = ()
    runs: list[Running] = dataclasses.field(default_factory=list)
    note: str = ""
    """What the disturbance was, for the table."""
    faults: list[str] = dataclasses.field(default_factory=list)
    """What the scenario itself found."""
    cleanup: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.work.mkdir(parents=True)
        (self.folder / "temporary").mkdir()
        shutil.copytree(self.reference.parent / "videos", self.videos)

    @property
    def work(self) -> Path:
        """The folder of the store, and of nothing else."""
        return self.folder / "work"

    @property
    def videos(self) -> Path:
        """The folder of videos."""
        return self.folder / "videos"

    @property
    def store(self) -> Path:
        """The store."""
        return self.work / "out.h5"

    def start(
        self,
        *,
        wrap: Sequence[Word] = (),
        more: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Running:
        """Start the extraction, wrapped into another command if wanted."""
        env = environment(self.folder / "path") | {"TMPDIR": str(self.folder / "temporary"), **(more or {})}
        words = ["extract", self.videos, self.store, "--json", *OPTIONS, *self.words]
        log = self.folder / f"run{len(self.runs)}"
        command: list[Word] = [*wrap, sys.executable, "-m", "flowkit_cli", *words]
        self.runs.append(Running(command, env=env, log=log, before=before))
        return self.runs[-1]

    def at_random(self) -> Running:
        """Start the extraction and wait for a random moment of it."""
        running = self.start()
        rows, delay_s = self.random.randrange(VIDEOS + 1), self.random.uniform(0, 0.4)
        running.wait_for(self.store, rows=rows, delay_s=delay_s)
        self.note = f"after {rows} videos and {delay_s:.2f} s"
        return running


Scenario: TypeAlias = Callable[[Case], Ended]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A scenario, and how its disturbed command may end."""

    run: Scenario
    statuses: tuple[int, ...]
    needs: Callable[[], str] = str
    """Returns why it cannot run here; "" where it can."""


def told(ended: Ended) -> list[str]:
    """Return what is wrong with the way in which a command ended, whatever its status."""
    faults = ["it hangs"] if ended.hung else []
    if "Traceback" in ended.stderr:
        faults.append(f"traceback: {ended.stderr[ended.stderr.index('Traceback') :][:1500]}")
    if ended.status > 0 and not re.search(r"flowkit: |FAILED|interrupted", ended.stderr):
        faults.append(f"status {ended.status} without a word: {ended.last}")
    return faults


def judge(case: Case, kind: Kind, disturbed: Ended) -> JsonObject:
    """Repeat the command undisturbed; return a row of the table, with every fault."""
    faults = [*case.faults, *(f"disturbed: {text}" for text in told(disturbed))]
    if disturbed.status not in kind.statuses:
        faults.append(f"disturbed: status {disturbed.status}, expected of {kind.statuses}: {disturbed.last}")
    repeated = case.start().end()
    faults += [f"repeated: {text}" for text in told(repeated)]
    if repeated.status != 0:
        faults.append(f"repeated: status {repeated.status}: {repeated.stderr[-300:]}")
    faults += [f"{name} was extracted again" for name in sorted(disturbed.stored & repeated.stored)]
    left = sum(running.left() for running in case.runs)
    faults += [f"{left} processes were left"] if left else []
    faults += [f"left behind: {name}" for name in strays(case)]
    different = differences(case.store, case.reference)
    faults += different
    return {
        "note": anonymous(" ".join([case.note, *map(str, case.words)]).strip(), case),
        "status": disturbed.status,
        "last": anonymous(disturbed.last, case),
        "stored": len(disturbed.stored),
        "seconds": disturbed.seconds,
        "repeated_status": repeated.status,
        "repeated_last": anonymous(repeated.last, case),
        "equal": not different,
        "faults": [anonymous(text, case) for text in faults],
    }


def anonymous(text: str, case: Case) -> str:
    """Return a message without the paths of this run."""
    names = {case.folder: "FOLDER", ROOT: "CHECKOUT", sys.prefix: "ENV", sys.base_prefix: "PYTHON"}
    for path, name in names.items():
        text = text.replace(str(path), name)
    return text


def strays(case: Case) -> list[str]:
    """Return what lies beside a store that is complete, or among the temporaries."""
    expected = {case.store.name, f"{case.store.name}.shards"}
    beside = [path for path in case.work.iterdir() if path.name not in expected]
    beside += [inner for path in beside if path.is_dir() for inner in path.iterdir()]
    found = [str(path.relative_to(case.work)) for path in beside]
    found += [path.name for path in (case.folder / "temporary").iterdir()]
    found += [path.name for path in case.work.glob("*.shards/*") if not re.fullmatch(r"\d{5}\.h5", path.name)]
    return sorted(found)


def differences(store: Path, reference: Path) -> list[str]:
    """Return in what a store differs from the undisturbed one."""
    try:
        report = flowkit.verify(store, deep=True)
        if not report.sound:
            return [f"not sound: {report.store} {report.videos}"]
        with flowkit.open(store) as one, flowkit.open(reference) as two:
            if list(one) != list(two) or one.failures:
                return [f"holds {list(one)}, failures {one.failures}"]
            pairs = {key: (one[key].flow(), two[key].flow()) for key in two}
            return [f"flow of {key} differs" for key, both in pairs.items() if not np.array_equal(*both)]
    except (flowkit.FlowkitError, OSError) as error:
        return [f"cannot be verified: {error}"]
