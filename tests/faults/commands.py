"""Kill commands that make or mend a store at their N-th call that changes a file; run them again; compare.

    LD_PRELOAD=kill_at.so python commands.py FOLDER RESULT.json [--every K] [--samples S] [COMMAND]...

Each command runs in a forked process that kill_at.c ends just before its N-th write, truncate, fsync,
rename, unlink, mkdir, rmdir or link, for N = 1, 2, ... (or S of them) until one ends by itself. Then the same
command runs undisturbed, and must end well, leave what an undisturbed run leaves and nothing else, and its
store must verify and hold the same bytes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

import flowkit
import flowkit_cli
from flowkit.executor import InlineExecutor
from flowkit.rawframes.import_config import ImportConfig
from flowkit.rawframes.importer import import_rawframes
from flowkit.store import hdf5_file
from flowkit.store.inventory import survey
from flowkit.store.schema import VIDEOS
from flowkit.store.tools.combine import merge, relabel
from flowkit.store.tools.recode import recode
from tests.make import stores

LABELS = {"a/1": "x", "b/1": "y"}


def command_line(*words: object) -> int:
    """Run a command in this process; return its status."""
    status = flowkit_cli.group.main([str(word) for word in words], standalone_mode=False)
    return status if isinstance(status, int) else 0


def import_all(inputs: Path, out: Path) -> int:
    with InlineExecutor() as executor:
        report = import_rawframes(inputs / "frames", out, config=ImportConfig(jobs=1), executor=executor)
    return 1 if report.failures else 0


def recode_into_shards(inputs: Path, out: Path) -> int:
    recode(inputs / "a.h5", out, drop_frames=True, shard_bytes=1)
    return 0


def merge_into_shards(inputs: Path, out: Path) -> int:
    merge([inputs / "a.h5", inputs / "b.h5"], out, shard_bytes=1)
    return 0


def relabel_into_shards(inputs: Path, out: Path) -> int:
    relabel(inputs / "a.h5", out, LABELS, shard_bytes=1)
    return 0


def repair(inputs: Path, out: Path) -> int:
    return min(0, command_line("verify", "--repair", out))  # 1 where it found something to repair


COMMANDS: Mapping[str, Callable[[Path, Path], int]] = {
    "merge": lambda inputs, out: command_line("merge", inputs / "a.h5", inputs / "b.h5", "-o", out),
    "subset": lambda inputs, out: command_line(
        "subset", inputs / "a.h5", "--list", inputs / "ids.txt", "-o", out
    ),
    "relabel": lambda inputs, out: command_line(
        "relabel", inputs / "a.h5", "--labels", inputs / "labels.csv", "-o", out
    ),
    "recode": lambda inputs, out: command_line("recode", inputs / "a.h5", "--flow-codec", "jpeg", "-o", out),
    "import": import_all,
    "repair": repair,
    "merge-sharded": merge_into_shards,
    "relabel-sharded": relabel_into_shards,
    "recode-sharded": recode_into_shards,
    "repair-sharded": repair,
}
"""Each is called with the folder of inputs and the path of its store."""


def make_inputs(folder: Path) -> None:
    """Write two stores, damaged copies, lists, and a folder of raw frames."""
    stores.write_store(folder / "a.h5", {k: stores.noise(2, seed) for seed, k in enumerate(["a/1", "b/1"])})
    stores.write_store(folder / "b.h5", {"c/1": stores.noise(2, 2)})
    (folder / "ids.txt").write_text("b/1\n")
    (folder / "labels.csv").write_text("id,label\n" + "".join(f"{k},{v}\n" for k, v in LABELS.items()))
    (folder / "repair").mkdir()
    shutil.copy(folder / "a.h5", folder / "repair" / "out.h5")
    damage(folder / "repair" / "out.h5", folder / "repair" / "out.h5")
    sharded = folder / "repair-sharded" / "out.h5"
    sharded.parent.mkdir()
    merge([folder / "a.h5", folder / "b.h5"], sharded, shard_bytes=40_000)
    damage(sharded, sharded.with_name("out.h5.shards") / "00000.h5")
    for name in ("p", "q"):
        clip = folder / "frames" / "walk" / name
        clip.mkdir(parents=True)
        for k in range(1, 4):
            for kind in ("img", "flow_x", "flow_y")[: 3 if k < 3 else 1]:
                image = np.full((12, 20), 100 + 7 * k + len(kind), np.uint8)
                assert cv2.imwrite(str(clip / f"{kind}_{k:05d}.jpg"), image)


def damage(store: Path, path: Path) -> None:
    """Flip a bit in the first flow chunk of a/1, which is in the file at `path`."""
    import h5py

    with h5py.File(path, "r") as file:
        offset = file[f"{VIDEOS}/a/1/flow"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 3] ^= 1
    path.write_bytes(data)
    assert not flowkit.verify(store).sound


def run_forked(
    command: Callable[[Path, Path], int], inputs: Path, work: Path, kill_at: int
) -> tuple[int, int]:
    """Run a command in a process of its own; return its status (as `wait` has it) and its calls."""
    calls = work.parent / "calls"
    calls.write_text("0")
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return status, int(calls.read_text())
    shim = ctypes.CDLL(None)
    log = os.open(work.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    tempfile.tempdir = str(work / "temporary")
    status = 99
    try:
        shim.kill_at_call(kill_at)
        status = command(inputs, work / "out.h5")
        count = shim.calls_made()
        shim.kill_at_call(0)
        calls.write_text(str(count))
    except BaseException as error:  # printed: the process ends here
        print(type(error).__name__, error, flush=True)
    finally:
        os._exit(status)


def start(inputs: Path, folder: Path, name: str) -> Path:
    """Make the folder in which a command works: its store if it mends one, and one for temporaries."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    if (inputs / name).is_dir():
        shutil.copytree(inputs / name, work)
    else:
        work.mkdir()
    (work / "temporary").mkdir()
    return work


def held(work: Path) -> dict[str, object]:
    """Return all that a finished command may leave: its files and the contents of its store."""
    store = work / "out.h5"
    report, files = flowkit.verify(store), survey(store)
    with flowkit.open(store) as opened:
        videos = {
            k: (opened[k].flow().tobytes(), opened[k].record.label, opened[k].record.n_frames) for k in opened
        }
        kept = opened.options.frame_codec != "none"
        frames = {k: [opened[k].frames(range(3)).tobytes()] for k in opened} if kept else {}
        lists = (opened.labels, opened.failures, opened.options)
    shards = [path.name for path in (*files.pending, *files.leftover, *files.missing)]
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.parent.name != "out.h5.shards"}
    strays = [path.name for path in work.glob("out.h5.shards/*.tmp")]
    return {
        "sound": (report.sound, report.store, report.videos),
        "videos": videos,
        "frames": frames,
        "lists": lists,
        "shards": (len(files.table), shards, strays),
        "left": left,
    }


def campaign(
    name: str, inputs: Path, folder: Path, *, every: int = 1, samples: int | None = None
) -> dict[str, object]:
    """Kill one command at its calls; return the numbers and every fault."""
    began, command = time.monotonic(), COMMANDS[name]
    work = start(inputs, folder, name)
    command(inputs, work / "out.h5")  # here, so that no fork has to import what it needs
    work = start(inputs, folder, name)
    status, calls = run_forked(command, inputs, work, 0)
    assert status == 0, (name, (folder / "log").read_text())
    expected, faults = held(work), []
    points: Sequence[int] = range(1, calls + 1, every)
    if samples is not None:
        points = sorted({1 + (calls - 1) * k // max(1, samples - 1) for k in range(samples)})
    for n in points:
        work = start(inputs, folder, name)
        killed, _ = run_forked(command, inputs, work, n)
        if not os.WIFSIGNALED(killed) or os.WTERMSIG(killed) != signal.SIGKILL:
            faults.append(f"call {n} of {calls} was not reached: {killed}")
            continue
        status, _ = run_forked(command, inputs, work, 0)
        if status != 0:
            said = (folder / "log").read_text()
            faults.append(
                f"call {n}: the same command ended with {os.waitstatus_to_exitcode(status)}: {said}"
            )
            continue
        found = held(work)
        faults += [
            f"call {n}: {key} is {found[key]}, expected {expected[key]}"[:500]
            for key in expected
            if found[key] != expected[key]
        ]
    seconds = round(time.monotonic() - began, 1)
    return {"calls": calls, "kill_points": len(points), "faults": faults, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--head-bytes", type=int, default=hdf5_file.HEAD_BYTES)
    args = parser.parse_args()
    hdf5_file.HEAD_BYTES = args.head_bytes
    inputs = args.folder / "inputs"
    inputs.mkdir(parents=True)
    make_inputs(inputs)
    results = {}
    for name in args.commands:
        results[name] = campaign(name, inputs, args.folder, every=args.every, samples=args.samples)
        print(name, {k: v for k, v in results[name].items() if k != "faults"}, file=sys.stderr, flush=True)
        args.result.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
