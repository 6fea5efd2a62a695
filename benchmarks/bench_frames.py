"""CPU time of all that is around the solver, stage by stage, against decoding alone: the limit of any road.

    python -m benchmarks.bench_frames [--repeats N] [--copies N] [--name NAME]

Real clips of $FLOWKIT_TEST_DATA/labelled/fight, from 426x240 to 1920x1080, each decoded alone and then
extracted with codes that were computed before instead of a solver, `--copies` times into one store. One
process with one thread for decoding; CPU seconds of all its threads, since the machine has other work. All
measurements take turns; medians are given. Both roads are measured: from the decoder's planes to RGB of the
stored size by swscale ("rgb" is all of it), and RGB first with OpenCV's resize. "rest" is what an extraction
takes beyond its stages: pipeline, parts, checksums, packing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.canned_engine import CannedSolver
from benchmarks.record import ROOT, JsonObject, write_result
from flowkit import jpeg
from flowkit.executor import InlineExecutor
from flowkit.extraction import engines
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.extraction.sources import VideoSource
from flowkit.frames import pair_indices, resize, to_grey
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs import DEFAULT_BOUND_PX, DEFAULT_FLOW_CODEC, flow_codec
from flowkit.tvl1 import cpu
from flowkit.tvl1.engine import codes_solver
from flowkit.tvl1.params import DEFAULT_PRESET, resolve_params
from flowkit.typing import UInt8
from flowkit.video.reader import open_video

DATA = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
CLIPS = tuple(
    f"{kind}/{name}.mp4"
    for kind, name in [
        *(("fight", "fi082"), ("fight", "fi001"), ("fight", "fi013"), ("noFight", "nofi063")),
        *(("fight", "fi122"), ("fight", "fi051"), ("fight", "fi077")),
    ]
)
ROADS = {
    "swscale": ResizeRule(pixels="square", scaler="swscale"),
    "opencv": ResizeRule(pixels="stored", scaler="opencv"),
}
SOLVED_PAIRS = 12
Stages: TypeAlias = dict[str, float]


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the CPU time of a call, all threads of this process, ms."""
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)


def decode_alone(path: Path) -> int:
    """Decode with PyAV and one thread, and count the frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def read_frames(path: Path, size: tuple[int, int] | None) -> int:
    """Read as an extraction does, to RGB as coded or of a size, and count the frames."""
    with open_video(path) as reader:
        return sum(len(frame.to_rgb(size)) > 0 for frame in reader.lazy())


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip with its frames as stored and the codes of its first pairs."""

    path: Path
    n_frames: int
    native: list[UInt8]
    stored: list[UInt8]
    solver: CannedSolver
    solve_ms: float

    @classmethod
    def of(cls, path: Path, rule: ResizeRule) -> Clip:
        """Read and solve the first pairs."""
        with open_video(path) as reader:
            native = [frame.rgb for frame, _ in zip(reader, range(SOLVED_PAIRS + 1), strict=False)]
        stored = [resize(rgb, rule.target_size(rgb.shape[1], rgb.shape[0])) for rgb in native]
        greys = np.stack([to_grey(rgb) for rgb in stored])
        quantizer = flow_codec(DEFAULT_FLOW_CODEC, bound_px=DEFAULT_BOUND_PX).quantizer
        engine = codes_solver(cpu.load(resolve_params(DEFAULT_PRESET)))
        began = time.process_time()
        made = engine.codes_batch(greys, pair_indices(len(greys)), quantizer=quantizer)
        solve_ms = 1e3 * (time.process_time() - began) / (len(greys) - 1)
        codes: NDArray[np.int8] = np.asarray(made.codes, np.int8)
        canned = CannedSolver(codes, made.scales, made.largest_px, 1e9)
        return cls(path, decode_alone(path), native, stored, canned, solve_ms)

    def extract(self, rule: ResizeRule, copies: int) -> int:
        """Extract copies into one store, without a solver; return the store's bytes."""
        sources = [VideoSource(path=self.path, video_id=f"{k}") for k in range(copies)]
        config = ExtractConfig(resize=rule, jobs=1, backend="cpu")
        engines._solver = lambda *_: self.solver  # type: ignore[assignment]
        with tempfile.TemporaryDirectory() as folder, InlineExecutor() as executor:
            store = Path(folder) / "out.h5"
            report = extract(sources, store, config=config, executor=executor)
            if report.failures:
                raise SystemExit(f"{self.path}: {report.failures[0].detail}")
            return store.stat().st_size

    def stages(self, rule: ResizeRule, copies: int) -> Stages:
        """Return the CPU time of each stage once, ms a frame."""
        size = self.stored[0].shape[1], self.stored[0].shape[0]
        codec = flow_codec(DEFAULT_FLOW_CODEC, bound_px=DEFAULT_BOUND_PX)
        decode = cpu_ms(lambda: decode_alone(self.path)) / self.n_frames
        scaled = size if rule.scaler == "swscale" else None
        read = cpu_ms(lambda: read_frames(self.path, scaled)) / self.n_frames
        images = self.stored if scaled else self.native
        each: dict[str, Callable[[], object]] = {
            "resize": lambda: [resize(rgb, size, rule.interpolation) for rgb in images],
            "grey": lambda: [to_grey(rgb) for rgb in self.stored],
            "jpeg": lambda: [jpeg.encode(rgb) for rgb in self.stored],
        }
        made = {name: cpu_ms(work) / len(self.native) for name, work in each.items()}
        fields = self.solver.fields()
        encoding = cpu_ms(lambda: [codec.encode_codes(field) for field in fields])
        whole = cpu_ms(lambda: self.extract(rule, copies)) / (copies * self.n_frames)
        found = {"decode": decode, "rgb": read - decode, **made, "flow codec": encoding / len(fields)}
        return {**found, "rest": whole - sum(found.values()), "whole": whole}


def huffman(clips: Sequence[Clip], repeats: int) -> list[JsonObject]:
    """Return bytes and ms of frames as JPEGs with the standard's Huffman codes and with their own."""
    rows = []
    for clip in clips:
        images = [cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) for rgb in clip.stored]
        row: JsonObject = {"clip": clip.path.name, "quality": jpeg.DEFAULT_QUALITY}
        for name, own in (("standard", 0), ("own", 1)):
            how = [cv2.IMWRITE_JPEG_QUALITY, jpeg.DEFAULT_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, own]
            how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
            data = [cv2.imencode(".jpg", image, how)[1].tobytes() for image in images]

            def encode(images: Sequence[object] = images, how: Sequence[int] = how) -> None:
                for image in images:
                    cv2.imencode(".jpg", image, how)  # type: ignore[call-overload]

            def decode(data: Sequence[bytes] = data) -> None:
                for each in data:
                    jpeg.decode(each)

            row[name] = {"bytes": sum(map(len, data)) / len(data)}
            for what, work in (("encode_ms", encode), ("decode_ms", decode)):
                row[name][what] = statistics.median(cpu_ms(work) / len(data) for _ in range(repeats))
        rows.append(row)
    return rows


def table(clips: Sequence[Clip], copies: int, repeats: int) -> list[JsonObject]:
    """Return a row for each clip and road: medians and all measurements."""
    runs: dict[tuple[int, str], list[Stages]] = {}
    for _ in range(repeats):
        for k, clip in enumerate(clips):
            for road, rule in ROADS.items():
                runs.setdefault((k, road), []).append(clip.stages(rule, copies))
    rows = []
    for (k, road), made in runs.items():
        clip, middle = clips[k], {name: statistics.median(run[name] for run in made) for name in made[0]}
        height, width = clip.native[0].shape[:2]
        rows.append(
            {
                "clip": clip.path.name,
                "size": f"{width}x{height}",
                "stored": "{1}x{0}".format(*clip.stored[0].shape[:2]),
                "road": road,
                "ms_a_frame": middle,
                "times_decoding": middle["whole"] / middle["decode"],
                "solver_ms_a_pair": clip.solve_ms,
                "store_bytes": clip.extract(ROADS[road], 1),
                "runs": made,
            }
        )
    return rows


def totals(rows: Sequence[JsonObject]) -> JsonObject:
    """Return, of each road, the means over the clips, ms a frame, and their ratios."""
    found: JsonObject = {}
    for road in dict.fromkeys(row["road"] for row in rows):
        mine = [row for row in rows if row["road"] == road]
        means = {
            name: statistics.fmean(row["ms_a_frame"][name] for row in mine) for name in mine[0]["ms_a_frame"]
        }
        solver = statistics.fmean(row["solver_ms_a_pair"] for row in mine)
        found[road] = {
            "ms_a_frame": means,
            "times_decoding": means["whole"] / means["decode"],
            "geometric_mean_of_the_clips": statistics.geometric_mean(row["times_decoding"] for row in mine),
            "decoding_of_a_whole_extraction": means["decode"] / (means["whole"] + solver),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--name", default="frames")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rule = next(iter(ROADS.values()))
    clips = [Clip.of(DATA / "labelled" / "fight" / "videos" / name, rule) for name in CLIPS]
    table(clips[:1], 1, 1)  # warm
    rows = table(clips, args.copies, args.repeats)
    result = {
        "question": "CPU time of all but the solver, ms a frame and against decoding alone",
        "copies": args.copies,
        "repeats": args.repeats,
        "means": totals(rows),
        "rows": rows,
        "huffman_codes": huffman(clips, args.repeats),
    }
    path = write_result(args.name, result)
    for row in rows:
        words = " ".join(f"{name} {ms:.2f}" for name, ms in row["ms_a_frame"].items())
        print(row["size"], row["road"], words, f"= {row['times_decoding']:.2f}x")
    print(json.dumps(result["means"], indent=1), path, file=sys.stdout)


if __name__ == "__main__":
    main()
