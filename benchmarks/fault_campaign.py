"""Kill a command at every system call that changes a file; run it again; verify.

    python benchmarks/fault_campaign.py [--mode inline|command|commands] [--every K] [--jobs J]
        [--head-bytes N] [COMMAND]...

`commands` does so with merge, subset, relabel, recode, import and verify --repair, of one file and of shards,
each in a forked process: see tests/faults/commands.py. It needs a C compiler; the other two modes kill an
extraction and need strace. There, for N = 1, 2, ... a small extraction (two clips, one of them long enough
for segments) gets SIGKILL at its N-th write, pwrite64, ftruncate, fsync, rename or unlink, until a run ends
by itself. `inline` does all the work in one process; `command` is `flowkit extract --jobs 2`, where the N-th
call of the coordinator or of a worker is hit. Then the same extraction runs undisturbed and the store is
verified. It fails if a video whose commit was reported is extracted again, a store does not verify, or flow
differs from the undisturbed run's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flowkit  # noqa: E402  (from this checkout)
from benchmarks.record import python_path, write_result  # noqa: E402
from flowkit.store.hdf5_file import HEAD_BYTES  # noqa: E402
from tests.faults.commands import COMMANDS  # noqa: E402
from tests.make import clips  # noqa: E402

CALLS = "write,pwrite64,ftruncate,fsync,rename,unlink"


def command_of(mode: str, videos: Path, store: Path) -> list[str]:
    if mode == "inline":
        return [sys.executable, str(ROOT / "tests/faults/extraction.py"), str(videos), str(store)]
    options = ["--short-side", "16", "--backend", "opencv", "--jobs", "2", "--json", "--quiet"]
    return [shutil.which("flowkit") or "flowkit", "extract", str(videos), str(store), *options]


def committed(mode: str, output: str) -> set[str]:
    if mode == "inline":
        return {line.split()[1] for line in output.splitlines() if line.startswith("committed")}
    rows = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
    return {row["video_id"] for row in rows if row["status"] == "stored"}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": python_path()}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def killed_at(n: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    inject = f"inject={CALLS}:signal=SIGKILL:when={n}"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}"]
    return run([*strace, "-e", inject, *command])


def differences(store: Path, reference: Path) -> list[str]:
    report = flowkit.verify(store)
    if not report.sound:
        return [f"not sound: {report.store} {report.videos}"]
    with flowkit.open(store) as one, flowkit.open(reference) as two:
        if list(one) != list(two):
            return [f"holds {list(one)}"]
        return [f"flow of {k} differs" for k in two if not np.array_equal(one[k].flow(), two[k].flow())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mode", choices=["inline", "command", "commands"], default="inline")
    parser.add_argument("--every", type=int, default=1, help="try every K-th call only")
    parser.add_argument("--jobs", type=int, default=2, help="commands at the same time, of mode commands")
    parser.add_argument(
        "--head-bytes",
        type=int,
        default=HEAD_BYTES,
        help="of mode commands: bytes of a new file that are held in memory; 0 has the calls of large files",
    )
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="of mode commands; all without it")
    args = parser.parse_args()
    if args.mode == "commands":
        return kill_commands(args.commands or list(COMMANDS), args.every, args.jobs, args.head_bytes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        videos = folder / "videos"
        videos.mkdir()
        clips.mjpeg_avi(videos / "long.avi", clips.moving_texture(10, height=16, width=16))
        clips.mjpeg_avi(videos / "short.avi", clips.moving_texture(3, height=16, width=16))
        reference = folder / "reference.h5"
        run(command_of(args.mode, videos, reference)).check_returncode()
        result = campaign(args.mode, args.every, videos, reference, folder)
    path = write_result(f"fault-campaign-{args.mode}", result)
    print(json.dumps({k: v for k, v in result.items() if k != "faults"}), path)
    return 1 if result["faults"] else 0


def kill_commands(names: list[str], every: int, jobs: int, head_bytes: int) -> int:
    """Kill each of these commands at its calls, `jobs` commands at a time; write the result."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(jobs) as pool:
        library = Path(temporary) / "kill_at.so"
        source = ROOT / "tests" / "faults" / "kill_at.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)

        def one(name: str) -> dict[str, object]:
            script, result = ROOT / "tests" / "faults" / "commands.py", Path(temporary) / f"{name}.json"
            paths = [str(path) for path in (script, Path(temporary) / name, result)]
            words = [sys.executable, *paths, name, "--every", str(every)]
            words += ["--head-bytes", str(head_bytes)]
            environment = {**os.environ, "PYTHONPATH": python_path(), "LD_PRELOAD": str(library)}
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
            return dict(json.loads(result.read_text())[name])

        results = dict(zip(names, pool.map(one, names), strict=True))
    faults = {name: result["faults"] for name, result in results.items() if result["faults"]}
    total = sum(int(str(result["kill_points"])) for result in results.values())
    path = write_result(
        "fault-campaign-commands" + ("" if head_bytes else "-unheld"),
        {
            "mode": "commands",
            "head_bytes": head_bytes,
            "every": every,
            "kill_points": total,
            "commands": results,
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    print(json.dumps({"kill_points": total, "faults": faults}), path)
    return 1 if faults else 0


def campaign(mode: str, every: int, videos: Path, reference: Path, folder: Path) -> dict[str, object]:
    began, n, kills, reported, lost = time.monotonic(), 1, 0, 0, 0
    faults: list[str] = []
    while True:
        work = folder / f"kill{n}"
        work.mkdir()
        command = command_of(mode, videos, work / "out.h5")
        first = killed_at(n, command)
        if first.returncode == 0:
            break
        kills += 1
        done = committed(mode, first.stdout)
        reported += len(done)
        second = run(command)
        again = done & committed(mode, second.stdout)
        lost += len(again)
        found = [f"{k} was extracted again" for k in again]
        if second.returncode != 0:
            found.append(f"resume ended with {second.returncode}: {second.stderr[-300:]}")
        else:
            found += differences(work / "out.h5", reference)
            left = {path.name for path in work.iterdir()} - {"out.h5"}
            found += [f"left behind: {left}"] if left else []
        faults += [f"call {n}: {text}" for text in found]
        print(f"\rcall {n}: {kills} kills, {len(faults)} faults", end="", file=sys.stderr, flush=True)
        shutil.rmtree(work)
        n += every
    print(file=sys.stderr)
    return {
        "mode": mode,
        "calls": CALLS,
        "every": every,
        "kill_points": kills,
        "commits_reported_before_kills": reported,
        "commits_lost": lost,
        "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
