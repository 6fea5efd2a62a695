"""`flowkit extract` against the script that people write with OpenCV, on the same clips.

    python -m benchmarks.bench_extract [--clips N] [--frames N] [--repeats N]

The baseline reads a clip with cv2.VideoCapture, computes DualTVL1 with its defaults for each pair and
writes the flow (bound 20) as pairs of JPEGs and the frames as JPEGs; one process a core, cv2 with one
thread in each. flowkit extracts the same files with `--preset opencv-cuda` and with `opencv-cpu`, the
baseline's own parameters, frames and flow into one store. Runs alternate (`harness`), on all cores;
start-up of processes counts on both sides. The fraction of CPU time spent inside the solver is taken
from one further run in one process. Another checkout's extraction as the baseline:
`bench_extract_rival`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.harness import Case, run, shown
from benchmarks.record import ROOT, write_result
from flowkit.executor import InlineExecutor
from flowkit.extraction import engines
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import find_sources
from flowkit.tvl1.params import resolve_params

DATA = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
CLIP = DATA / "videos" / "misc" / "tests_data_test.avi"
BOUND_PX = 20.0
BASELINE = "opencv script"
QUESTION = "seconds a frame of a whole extraction against a plain OpenCV script"


def cut_clips(folder: Path, count: int, frames: int) -> None:
    """Cut the real clip into `count` XviD clips of 320x240, going round where it ends."""
    capture, images = cv2.VideoCapture(str(CLIP)), []
    while (image := capture.read()[1]) is not None:
        images.append(image)
    fourcc = cv2.VideoWriter.fourcc(*"XVID")
    for k in range(count):
        writer = cv2.VideoWriter(str(folder / f"clip{k}.avi"), fourcc, 25, (320, 240))
        for i in range(k * frames, (k + 1) * frames):
            writer.write(images[i % len(images)])
        writer.release()


def baseline_clip(words: tuple[str, str]) -> int:
    """Do one clip the plain way; return the number of pairs."""
    path, folder = words
    cv2.setNumThreads(1)
    os.makedirs(folder)
    solver = cv2.optflow.createOptFlow_DualTVL1()
    capture, before, count = cv2.VideoCapture(path), None, 0
    while True:
        ok, image = capture.read()
        if not ok:
            return count - 1
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        cv2.imwrite(f"{folder}/img_{count:05d}.jpg", image)
        if before is not None:
            flow = solver.calc(before, grey, np.zeros((*grey.shape, 2), np.float32))
            codes = np.clip(np.rint((flow + BOUND_PX) * (255 / (2 * BOUND_PX))), 0, 255).astype(np.uint8)
            cv2.imwrite(f"{folder}/flow_x_{count:05d}.jpg", codes[..., 0])
            cv2.imwrite(f"{folder}/flow_y_{count:05d}.jpg", codes[..., 1])
        before, count = grey, count + 1


def run_baseline(videos: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    clips = sorted(videos.iterdir())
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(baseline_clip, [(str(clip), str(out / clip.stem)) for clip in clips]))


def run_flowkit(videos: Path, out: Path, preset: str) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [shutil.which("flowkit") or "flowkit", "extract", str(videos), str(out / "out.h5")]
    subprocess.run([*command, "--preset", preset, "--quiet"], check=True, stderr=subprocess.DEVNULL)


def solver_fraction(videos: Path, store: Path) -> dict[str, float]:
    """Return the CPU time of one extraction in this process, and the part of it inside the solver."""
    inside = 0.0

    class Timed:
        def __init__(self, solver: Any) -> None:
            self._solver = solver

        def __getattr__(self, name: str) -> Any:
            return getattr(self._solver, name)

        def flow_batch(self, *args: Any, **options: Any) -> Any:
            nonlocal inside
            began = time.thread_time()
            flow = self._solver.flow_batch(*args, **options)
            inside += time.thread_time() - began
            return flow

    chosen = engines._solver
    engines._solver = lambda *args: Timed(chosen(*args))  # type: ignore[assignment]
    try:
        began = time.process_time()
        with InlineExecutor() as executor:
            config = ExtractConfig(params=resolve_params("opencv-cuda"), jobs=1)
            extract(find_sources([videos]), store, config=config, executor=executor)
        whole = time.process_time() - began
    finally:
        engines._solver = chosen
    return {"cpu_s": whole, "solver_cpu_s": inside, "share": inside / whole}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=164)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, videos = Path(temporary), Path(temporary) / "videos"
        videos.mkdir()
        cut_clips(videos, args.clips, args.frames)
        work: dict[str, Callable[[], None]] = {
            "flowkit": functools.partial(run_flowkit, videos, folder / "a", "opencv-cuda"),
            BASELINE: functools.partial(run_baseline, videos, folder / "b"),
            "flowkit opencv-cpu": functools.partial(run_flowkit, videos, folder / "c", "opencv-cpu"),
        }
        warm = work["flowkit"]  # the page cache; the baseline takes minutes
        frames = args.clips * args.frames
        cases = [Case(name=name, work=each, units=frames, warm_up=warm) for name, each in work.items()]
        result = run(QUESTION, cases, rounds=args.repeats, rival=BASELINE, cores="all")
        result["solver"] = solver_fraction(videos, folder / "solver.h5")
    result |= {"opencv": cv2.__version__, "frames": frames}
    for name, row in result["cases"].items():
        for ratio in row["ratio to"].values():
            print(f"{name}: {shown(ratio['wall'])} of the script's wall seconds")
    print(json.dumps({"solver": result["solver"]}), write_result("extract", result))


if __name__ == "__main__":
    main()
