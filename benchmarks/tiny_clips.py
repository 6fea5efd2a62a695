"""CPU time of a tiny clip besides its flow, against another checkout's: start, files, copies, packing.

    python -m benchmarks.tiny_clips --rival CHECKOUT [--clips 400] [--rounds 5]

Both extract clips of 20 frames at 34 x 26 px by their own command and code with one worker, on the cores
that there are, as it is used, and again held on one core; the solver hands out flow made before, and what
that takes is subtracted (`solver_shim`). A run of a single clip is subtracted as well: what is left, divided
by the clips, is the overhead of a clip. CHECKOUT has its CPU engine built inside. Writes one JSON file to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import av
import numpy as np

from benchmarks.bench_extract_rival import Extraction
from benchmarks.harness import Case, run, shown, spread
from benchmarks.record import ROOT, JsonObject, write_result
from benchmarks.tiny_store import HEIGHT, WIDTH

FRAMES = 20
CORES: tuple[Literal["all", "one"], ...] = ("all", "one")


def write_clip(path: Path, seed: int) -> None:
    """Write a clip of a texture that moves by a pixel a frame."""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(FRAMES):
            rgb = np.ascontiguousarray(texture[k : k + HEIGHT, k : k + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def write_clips(folder: Path, count: int) -> Path:
    """Write so many clips into a new folder."""
    folder.mkdir()
    for number in range(count):
        write_clip(folder / f"{number:05}.avi", number)
    return folder


def overhead(report: JsonObject, runs: dict[str, Extraction], name: str, clips: int) -> list[float]:
    """Return the CPU seconds of a clip without solver and start, round by round."""
    several, single = (report["cases"][key]["cpu_s"]["values"] for key in (name, f"{name}, one clip"))
    solved = [one.cpu_s for one in runs[name].solved[-len(several) :]]
    return [
        (whole - inside - once) / (clips - 1)
        for whole, inside, once in zip(several, solved, single, strict=True)
    ]


def measure(
    rival: Path, folder: Path, *, clips: int, rounds: int, cores: Literal["one", "all"]
) -> JsonObject:
    """Time both checkouts."""
    folder.mkdir()
    videos, one = write_clips(folder / "videos", clips), write_clips(folder / "one", 1)
    canned = folder / "canned.npz"
    flow = np.random.default_rng(0).normal(0, 1, (8, 2, HEIGHT, WIDTH)).astype(np.float32)
    np.savez(canned, **{f"{HEIGHT}x{WIDTH}": flow})  # type: ignore[arg-type]
    runs, cases = {}, []
    for name, root in (("ours", ROOT), ("rival", rival)):
        for suffix, source in (("", videos), (", one clip", one)):
            runs[name + suffix] = Extraction(root, folder / f"{name}{len(suffix)}", canned=canned)
            work = functools.partial(runs[name + suffix].work, source)
            cases.append(
                Case(name=name + suffix, work=work, warm_up=functools.partial(runs[name + suffix].work, one))
            )
    question = "CPU time of a tiny clip besides its flow, s"
    report = run(question, cases, rounds=rounds, rival="rival", cores=cores)
    each = {name: overhead(report, runs, name, clips) for name in ("ours", "rival")}
    ratios = [mine / theirs for mine, theirs in zip(each["ours"], each["rival"], strict=True)]
    report["overhead_s_a_clip"] = {name: spread(values) for name, values in each.items()}
    report["overhead_ratio"] = spread(ratios)
    report["store_bytes"] = {name: runs[name].store.stat().st_size for name in ("ours", "rival")}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rival", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report: JsonObject = {"clips": options.clips, "frames": FRAMES, "size": [WIDTH, HEIGHT]}
    sizes = {"clips": options.clips, "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as temporary:
        for cores in CORES:
            report[cores] = measure(options.rival.resolve(), Path(temporary) / cores, **sizes, cores=cores)
    report["rival_commit"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.rival, capture_output=True, text=True, check=True
    ).stdout.strip()
    for cores in CORES:
        found = report[cores]
        for name, values in found["overhead_s_a_clip"].items():
            print(f"cores: {cores}; {name}: {shown(values, scale=1e3)} ms of CPU a clip")
        print(f"cores: {cores}; ratio {shown(found['overhead_ratio'])}; bytes {found['store_bytes']}")
    print(f"written to {write_result('tiny-clips', report)}")


if __name__ == "__main__":
    main()
