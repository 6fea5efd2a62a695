"""Scenarios of the disruption campaign: signals, full and vanishing folders, clock jumps, limits.

Each scenario starts the command, disturbs it at a random moment and undoes the disturbance; it returns how
the command ended. `SCENARIOS` has them with the statuses that their commands may end with.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.disruptions import Case, Ended, Kind
from benchmarks.record import ROOT
from tests.make.cluster import Cluster

DAY_S = 86_400
DELAYS_US = (1_000, 10_000)
SLOW_CALLS = "write,pwrite64,ftruncate,fsync,rename"
SMALL_DISK_K, ENOUGH_M = (40, 700), 100
LIMITS: Mapping[str, tuple[int, int, int]] = {
    "files": (resource.RLIMIT_NOFILE, 8, 64),
    "file-size": (resource.RLIMIT_FSIZE, 4_000, 400_000),
    "memory": (resource.RLIMIT_AS, 300_000_000, 2_500_000_000),
}
"""Limits by name: which, and its range."""


def kill_worker(case: Case) -> Ended:
    """Kill one worker process; the run goes on with another."""
    running = case.at_random()
    workers = running.workers()
    if workers:
        victim = case.random.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    case.note += "" if workers else ": no worker was there"
    return running.end()


def signal_parent(case: Case, number: signal.Signals) -> Ended:
    """Send a signal to the coordinator; its workers see what becomes of them."""
    running = case.at_random()
    running.process.send_signal(number)
    return running.end()


def signal_all(case: Case, number: signal.Signals) -> Ended:
    """Send a signal to every process of the command, as a terminal's Ctrl-C or a machine's end."""
    running = case.at_random()
    running.kill(number)
    return running.end()


def dask(case: Case, victim: str) -> Ended:
    """Kill a worker, or the scheduler, of a cluster; the repeated command has a new one."""
    case.words = (*case.words, "--dask", case.folder / "cluster" / "scheduler.json")
    (case.folder / "cluster").mkdir()
    with Cluster(case.folder / "cluster") as cluster:
        workers = joined(cluster, "one", "two")
        running = case.at_random()
        cluster.kill(cluster.scheduler if victim == "scheduler" else case.random.choice(workers))
        ended = running.end()
    (case.folder / "cluster" / "scheduler.json").unlink(missing_ok=True)
    again = case.cleanup.enter_context(Cluster(case.folder / "cluster"))
    joined(again, "three")
    return ended


def joined(cluster: Cluster, *names: str) -> list[subprocess.Popen[bytes]]:
    """Add workers to a cluster and wait for them."""
    from distributed import Client

    workers = [cluster.add(name) for name in names]
    with Client(scheduler_file=str(cluster.file), timeout=60) as client:
        client.wait_for_workers(len(names), timeout=60)
    return workers


def full_disk(case: Case) -> Ended:
    """Extract onto a file system that is too small, mostly; enlarge it."""
    size = case.random.randrange(*SMALL_DISK_K)
    mounted("-t", "tmpfs", "-o", f"size={size}K", "tmpfs", case.work, case=case)
    ended = case.start().end()
    system("mount", "-o", f"remount,size={ENOUGH_M}M", case.work)
    case.note = f"a disk of {size} KB"
    return ended


def read_only(case: Case) -> Ended:
    """Lay the store's folder over itself, read-only: files that are open stay so, no other is opened."""
    running = case.at_random()
    with contextlib.ExitStack() as stack:
        system("mount", "--bind", case.work, case.work)
        stack.callback(system, "umount", "-l", case.work)
        while True:  # as long as a file is open for writing below the second mount
            with contextlib.suppress(subprocess.CalledProcessError):
                system("mount", "-o", "remount,bind,ro", case.work)
                break
        return running.end()


def store_gone(case: Case) -> Ended:
    """Rename the store's folder in the middle; the run may make no other in its place."""
    running, away = case.at_random(), case.folder / "away"
    case.work.rename(away)
    ended = running.end()
    if case.work.exists():
        made = sorted(str(path.relative_to(case.work)) for path in case.work.rglob("*") if path.is_file())
        case.faults += [f"made in its place: {name}" for name in made]
        shutil.rmtree(case.work)
    away.rename(case.work)
    return ended


def videos_gone(case: Case) -> Ended:
    """Rename the folder of videos in the middle."""
    running, away = case.at_random(), case.folder / "away"
    case.videos.rename(away)
    ended = running.end()
    away.rename(case.videos)
    return ended


def slow_folder(case: Case) -> Ended:
    """Delay every call that changes a file."""
    delay_us = case.random.randrange(*DELAYS_US)
    case.note = f"{delay_us / 1000:.0f} ms a call"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SLOW_CALLS}"]
    return case.start(wrap=[*strace, "-e", f"inject={SLOW_CALLS}:delay_enter={delay_us}"]).end()


def clock_jump(case: Case, seconds: int) -> Ended:
    """Move the clock of every process of the command at one moment."""
    after_s = case.random.uniform(0.5, 4)
    case.note = f"after {after_s:.1f} s"
    at_ns = str(time.monotonic_ns() + round(after_s * 1e9))
    shim = compiled(ROOT / "benchmarks" / "clock_jump.c", case.shims)
    more = {"LD_PRELOAD": str(shim), "CLOCK_JUMP_S": str(seconds), "CLOCK_JUMP_AT_NS": at_ns}
    return case.start(more=more).end()


def limited(case: Case, name: str) -> Ended:
    """Start the command below a limit of the system's."""
    which, least, most = LIMITS[name]
    value = case.random.randrange(least, most)
    case.note = f"{value}"
    return case.start(before=partial(resource.setrlimit, which, (value, value))).end()


def compiled(source: Path, folder: Path) -> Path:
    """Compile a shim, once; return the library."""
    library = folder / f"{source.stem}.so"
    if not library.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def mounted(*words: str | Path, case: Case) -> None:
    """Mount, until the case is over."""
    system("mount", *words)
    case.cleanup.callback(system, "umount", "-l", case.work)


def system(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def needs_mount() -> str:
    return "" if os.geteuid() == 0 and shutil.which("mount") else "only root may mount"


def needs_program(name: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(name) else f"{name} is not installed"


def needs_dask() -> str:
    try:
        import distributed  # noqa: F401
    except ImportError:
        return "distributed is not installed"
    return ""


INTERRUPTED = (0, 130, -signal.SIGTERM, -signal.SIGINT)
"""0 where the signal came after the end, the signal itself where Python was starting or ending."""
SCENARIOS: Mapping[str, Kind] = {
    "kill-worker": Kind(run=kill_worker, statuses=(0, 1)),
    "kill-parent": Kind(run=partial(signal_parent, number=signal.SIGKILL), statuses=(0, -signal.SIGKILL)),
    "kill-all": Kind(run=partial(signal_all, number=signal.SIGKILL), statuses=(0, -signal.SIGKILL)),
    "terminate-parent": Kind(run=partial(signal_parent, number=signal.SIGTERM), statuses=INTERRUPTED),
    "interrupt-parent": Kind(run=partial(signal_parent, number=signal.SIGINT), statuses=INTERRUPTED),
    "terminate-all": Kind(run=partial(signal_all, number=signal.SIGTERM), statuses=INTERRUPTED),
    "interrupt-all": Kind(run=partial(signal_all, number=signal.SIGINT), statuses=INTERRUPTED),
    "dask-worker": Kind(run=partial(dask, victim="worker"), statuses=(0,), needs=needs_dask),
    "dask-scheduler": Kind(run=partial(dask, victim="scheduler"), statuses=(0, 2), needs=needs_dask),
    "full-disk": Kind(run=full_disk, statuses=(0, 1, 2), needs=needs_mount),
    "read-only": Kind(run=read_only, statuses=(0, 1, 2), needs=needs_mount),
    "store-gone": Kind(run=store_gone, statuses=(0, 2)),
    "videos-gone": Kind(run=videos_gone, statuses=(0, 1, 2)),
    "slow-folder": Kind(run=slow_folder, statuses=(0,), needs=needs_program("strace")),
    "clock-forward": Kind(run=partial(clock_jump, seconds=DAY_S), statuses=(0,), needs=needs_program("cc")),
    "clock-back": Kind(run=partial(clock_jump, seconds=-DAY_S), statuses=(0,), needs=needs_program("cc")),
    "limit-files": Kind(run=partial(limited, name="files"), statuses=(0, 1, 2)),
    "limit-file-size": Kind(run=partial(limited, name="file-size"), statuses=(0, 1, 2)),
    "limit-memory": Kind(run=partial(limited, name="memory"), statuses=(0, 1, 2)),
}
"""Every scenario but the cut stores of `disruption_cuts`."""
