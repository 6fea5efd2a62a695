"""`flowkit features` of a raw video against another checkout's `extract` of it: seconds a frame.

    python -m benchmarks.bench_features --rival CHECKOUT [--seconds 60] [--rounds 3]

One video of 320 x 240 px at 25 frames per second, real clips one after another. `flowkit features --window 16
--stride 8` extracts it and runs EfficientNet-Lite0 over a frame and a flow image of each window; the other
checkout extracts it with its defaults and no more. Both by their own command and code, on all cores, start
included. CHECKOUT has its CPU engine built inside, as this one has. Needs FLOWKIT_TEST_DATA
(default ../shared/data) and the extra `train`. Writes one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.harness import Case, command, run, shown
from benchmarks.methods_table import data_folder
from benchmarks.record import ROOT, JsonObject, write_result

RATE, WIDTH, HEIGHT = 25, 320, 240
OURS, RIVAL = "features", "rival, extract"


def frames_of(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the RGB frames of files, one after another, from the first on again after the last."""
    for path in itertools.cycle(paths):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield cv2.resize(
                    frame.to_ndarray(format="rgb24"), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
                )


def write_long(target: Path, *, frames: int) -> None:
    """Write a video of so many frames as H.264."""
    clips = sorted((data_folder() / "labelled" / "fight" / "videos").glob("*/*.mp4"))
    if not clips:
        raise SystemExit("no clips: set FLOWKIT_TEST_DATA to the folder that has labelled/fight")
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb in itertools.islice(frames_of(clips), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


class Tool:
    """A checkout's command line, run anew each time in a folder of its own."""

    def __init__(self, root: Path, folder: Path, words: Sequence[str]) -> None:
        links = folder / "path"
        links.mkdir(parents=True)
        (links / "flowkit_cli").symlink_to(root.resolve() / "cli")
        self._env = {"PYTHONPATH": f"{links}{os.pathsep}{root.resolve()}", "PYTHONDONTWRITEBYTECODE": ""}
        self._folder, self._words, self._runs = folder, tuple(words), itertools.count()

    def work(self, video: Path) -> Path:
        """Run it on a video; return what it wrote."""
        out = self._folder / f"{next(self._runs)}.h5"
        words = [word.format(video=video, out=out) for word in self._words]
        command([sys.executable, "-m", "flowkit_cli", *words], env=self._env, cwd=self._folder)()
        return out


def main() -> None:
    """Time both, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rival", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        video, short = folder / "in" / "long.mp4", folder / "short.mp4"
        write_long(video, frames=RATE * options.seconds)
        write_long(short, frames=RATE)
        windows = ("--window", "16", "--stride", "8")
        ours = Tool(ROOT, folder / "a", ("features", "{video}", "-o", "{out}", *windows, "--quiet"))
        rival = Tool(options.rival, folder / "b", ("extract", "{video}", "{out}", "--quiet"))
        cases = [
            Case(
                name=name,
                work=functools.partial(tool.work, video),
                units=RATE * options.seconds,
                warm_up=functools.partial(tool.work, short),
            )
            for name, tool in ((OURS, ours), (RIVAL, rival))
        ]
        report: JsonObject = run(
            "features of a raw video against another checkout's extraction: seconds a frame, all cores",
            cases,
            rounds=options.rounds,
            rival=RIVAL,
            cores="all",
        )
    report["video"] = {"seconds": options.seconds, "width": WIDTH, "height": HEIGHT, "rate": RATE}
    report["rival_commit"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.rival, capture_output=True, text=True, check=True
    ).stdout.strip()
    ratio = report["cases"][OURS]["ratio to"][RIVAL]
    print(f"{OURS} / {RIVAL}: wall {shown(ratio['wall'])}, CPU {shown(ratio['cpu'])}")
    print(f"written to {write_result('features-rival', report)}")


if __name__ == "__main__":
    main()
