"""Memory of an extraction of a long video, and what a kill in its middle costs.

    python -m benchmarks.long_video VIDEO [--kill-at .5] [--jobs 2]

`flowkit extract` of VIDEO (an hour of 1080p30, say) is killed with SIGKILL, all its processes at once, when
so much of the work is done, and the same command goes on. Every half second the memory of all processes of
the command is added up: resident pages, those that processes share once (PSS). Beside the peaks: their course
over the run in twenty steps, frames a second, the frames that were done again, and the seconds until the
first new one. Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flowkit
from benchmarks.record import JsonObject, python_path, write_result
from flowkit.extraction.config import DEFAULT_SEGMENT_FRAMES
from flowkit.extraction.status import store_status

SAMPLE_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A moment of a run."""

    seconds: float
    pss_bytes: int
    frames: int


def group_pss(leader: int) -> int:
    """Return the bytes that all processes of a process group hold, shared ones once."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getpgid(int(entry.name)) == leader:
                lines = (entry / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def watched(command: list[str], store: Path, *, kill_at: float | None = None) -> tuple[list[Sample], int]:
    """Run a command and sample its memory; kill its group at a fraction of the work; return the status."""
    run = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": python_path()},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    began, samples = time.monotonic(), []
    while run.poll() is None:
        fraction, frames = 0.0, 0
        with contextlib.suppress(flowkit.FlowkitError):
            state = store_status(store).run
            fraction, frames = (state.fraction, state.frames) if state is not None else (0.0, 0)
        samples.append(Sample(time.monotonic() - began, group_pss(run.pid), frames))
        if kill_at is not None and fraction >= kill_at:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            break
        time.sleep(SAMPLE_S)
    return samples, run.returncode


def course(samples: list[Sample], steps: int = 20) -> list[JsonObject]:
    """Return the peaks of equal parts of a run."""
    size = -(-len(samples) // steps)
    parts = [samples[k : k + size] for k in range(0, len(samples), size)]
    return [{"until_s": part[-1].seconds, "peak_bytes": max(one.pss_bytes for one in part)} for part in parts]


def summary(samples: list[Sample]) -> JsonObject:
    """Return the figures of one run."""
    last = max(samples, key=lambda one: one.frames)
    return {
        "seconds": samples[-1].seconds,
        "peak_bytes": max(one.pss_bytes for one in samples),
        "frames": last.frames,
        "frames_a_second": last.frames / max(last.seconds, 1e-9),
        "course": course(samples),
    }


def main() -> None:
    """Run, kill, go on, verify, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--kill-at", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "out.h5"
        words = ["extract", str(options.video), str(store), "--jobs", str(options.jobs), "--quiet"]
        command = [sys.executable, "-m", "flowkit_cli", *words]
        first, _ = watched(command, store, kill_at=options.kill_at)
        segments = len(list((store.parent / f"{store.name}.parts").glob("*~s*.h5")))
        done = max(one.frames for one in first)
        second, status = watched(command, store)
        if status:
            raise SystemExit(f"the command that went on ended with {status}")
        sound = flowkit.verify(store).sound
        with flowkit.open(store) as opened:
            frames = {video_id: opened[video_id].n_frames for video_id in opened}
        size = store.stat().st_size
    if not sound:
        raise SystemExit("the store of the command that went on is not sound")
    result: JsonObject = {
        "video": dataclasses.asdict(flowkit.probe(options.video)),
        "store_bytes": size,
        "frames": frames,
        "killed": summary(first),
        "went_on": summary(second),
        "seconds_to_a_new_frame": next((one.seconds for one in second if one.frames > done), None),
        "done_again_frames": max(0, done - segments * DEFAULT_SEGMENT_FRAMES),
    }
    shown = {name: result[name] for name in ("seconds_to_a_new_frame", "done_again_frames", "frames")}
    for name in ("killed", "went_on"):
        shown[name] = {key: value for key, value in result[name].items() if key != "course"}
    print(json.dumps(shown))
    print(write_result("long-video", result))


if __name__ == "__main__":
    main()
