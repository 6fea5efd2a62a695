"""`flowkit extract` of this checkout against that of another: speed, CPU time beside the solver, bytes.

    python -m benchmarks.bench_extract_rival --rival CHECKOUT [--clips 8] [--rounds 7]

Both extract the same real clips (short side 256, JPEG quality 95: the defaults of both) by their own
command and code, the other one with its default preset and with `fast` as well, in turn, each with one
worker on one core, the start of the processes included. A shim (`solver_shim`) notes what the solver
takes: the rest of the CPU time is the road. Beside it the same runs whose solver hands out flow made
before (equal flow on both sides), and decoding alone, by PyAV: the limit of every extraction. CHECKOUT
has its CPU engine built inside, as this one has. Needs FLOWKIT_TEST_DATA (default ../shared/data). Writes
one JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import h5py
import numpy as np

from benchmarks.harness import Case, command, run, shown, spread
from benchmarks.methods_table import data_folder
from benchmarks.record import ROOT, JsonObject, write_result
from benchmarks.solver_shim import CANNED, LOG
from flowkit.frames import pair_indices, to_grey
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS
from flowkit.video.reader import open_video

CANNED_FIELDS = 8
OPTIONS = ("tvl1_preset", "flow_codec", "frame_codec", "jpeg_quality")
SHIM = Path(__file__).with_name("solver_shim.py")
OURS, RIVAL, RIVAL_FAST = "ours", "rival", "rival, preset fast"
OURS_ROAD, RIVAL_ROAD = "ours, canned flow", "rival, canned flow"
COMPARED = ((OURS, RIVAL), (OURS, RIVAL_FAST), (OURS_ROAD, RIVAL_ROAD))
DECODE = "decode alone"
STARTS = ("ours, six frames", "rival, six frames")
"""Of which nearly all is start and end: s a run."""

SHORT = Path("videos") / "derived" / "six_frames.mp4"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Solved:
    """Work of the solver in one run."""

    pairs: int
    cpu_s: float


class Extraction:
    """The extraction of a folder by one checkout's own command, again and again.

    Parameters
    ----------
    root : Path
        The checkout.
    folder : Path
        A new folder for its stores.
    words : sequence of str
        Further options of `extract`.
    canned : Path, optional
        Flow for `solver_shim` to hand out.
    """

    def __init__(
        self, root: Path, folder: Path, words: Sequence[str] = (), canned: Path | None = None
    ) -> None:
        self._root, self._folder, self._words = root.resolve(), folder, tuple(words)
        self.store, self._log = folder / "out.h5", folder / "solver.log"
        self.solved: list[Solved] = []
        links = folder / "path"
        links.mkdir(parents=True)
        (links / "flowkit_cli").symlink_to(self._root / "cli")
        (links / "sitecustomize.py").symlink_to(SHIM)
        # Compiled once, as where it is installed, whatever this shell has.
        self._env = {"PYTHONPATH": f"{links}{os.pathsep}{self._root}", "PYTHONDONTWRITEBYTECODE": ""}
        self._env[LOG] = str(self._log)
        if canned is not None:
            self._env[CANNED] = str(canned)

    def work(self, videos: Path) -> Path:
        """Extract anew; return the store."""
        for path in [*self._folder.glob("out.h5*"), self._log]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        words = ["extract", str(videos), str(self.store), "--jobs", "1", "--quiet", *self._words]
        command([sys.executable, "-m", "flowkit_cli", *words], env=self._env, cwd=self._folder)()
        self.solved.append(self._read_log())
        return self.store

    def _read_log(self) -> Solved:
        """Return what the solver took; refuse a run of another checkout's code, or of several threads."""
        rows = [line.split(maxsplit=3) for line in self._log.read_text().splitlines()]
        strange = [row for row in rows if row[2] != "1" or not Path(row[3]).is_relative_to(self._root)]
        if strange:
            raise SystemExit(f"not one thread of the engine below {self._root}: {strange[0]}")
        return Solved(pairs=sum(int(row[0]) for row in rows), cpu_s=sum(float(row[1]) for row in rows))


def store_facts(store: Path) -> JsonObject:
    """Return what a store holds: frames, fields, sizes, and bytes of frames and of flow."""
    facts: JsonObject = {"frames": 0, "fields": 0, "pixel_fields": 0, "frame_bytes": 0, "flow_bytes": 0}
    sizes = set()

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and "n_flow" in item.attrs:
            width, height, fields = (int(item.attrs[key]) for key in ("width", "height", "n_flow"))
            facts["frames"] += int(item.attrs["n_frames"])
            facts["fields"] += fields
            facts["pixel_fields"] += fields * height * width
            sizes.add((width, height))
            for key, dataset in item.items():
                kind = "flow_bytes" if key.startswith("flow") else "frame_bytes"
                facts[kind] += dataset.id.get_storage_size()

    with h5py.File(store) as file:
        file.visititems(visit)
        options = {
            key: file.attrs[key] for key in ("tvl1_preset", "flow_codec", "frame_codec", "jpeg_quality")
        }
    return {
        **facts,
        "sizes": sorted(sizes),
        "options": {key: value.item() if hasattr(value, "item") else value for key, value in options.items()},
        "store_bytes": store.stat().st_size,
        "flow_bytes_a_pixel_and_field": facts["flow_bytes"] / facts["pixel_fields"],
    }


def decode_all(paths: Sequence[Path]) -> int:
    """Decode every frame of the files with one thread and drop it; return their number."""
    count = 0
    for path in paths:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            count += sum(1 for _ in container.decode(video=0))
    return count


def write_canned(paths: Sequence[Path], sizes: Sequence[tuple[int, int]], target: Path) -> None:
    """Solve the first pairs of a clip of each stored size (width, height), and write the flow."""
    solver, made = cpu.load(PRESETS["fast"]), {}
    for path in paths:
        with open_video(path) as reader:
            frames = [frame.rgb for frame in itertools.islice(reader, CANNED_FIELDS + 1)]
        height, width = frames[0].shape[:2]
        nearest = min(sizes, key=lambda size: abs(size[0] / size[1] - width / height))
        name = f"{nearest[1]}x{nearest[0]}"
        if name not in made:
            small = (cv2.resize(rgb, nearest, interpolation=cv2.INTER_AREA) for rgb in frames)
            greys = np.stack([to_grey(np.asarray(rgb, np.uint8)) for rgb in small])
            made[name] = solver.flow_batch(greys, pair_indices(len(greys)))
    np.savez(target, **made)  # type: ignore[arg-type]


def choose_clips(count: int, folder: Path) -> list[Path]:
    """Copy clips, evenly from the first to the last of the set, into a folder; return the copies."""
    clips = sorted((data_folder() / "labelled" / "fight" / "videos").glob("*/*.mp4"))
    if not clips:
        raise SystemExit("no clips: set FLOWKIT_TEST_DATA to the folder that has labelled/fight")
    folder.mkdir()
    chosen = [clips[k] for k in np.linspace(0, len(clips) - 1, count).round().astype(int)]
    return [Path(shutil.copy(clip, folder)) for clip in chosen]


def start_cases(rival: Path, folder: Path) -> list[Case]:
    """Return the extraction of a clip of six frames by both; a unit is a run."""
    short = folder / "short"
    short.mkdir()
    shutil.copy(data_folder() / SHORT, short)
    made = []
    for name, root in zip(STARTS, (ROOT, rival), strict=True):
        extraction = Extraction(root, folder / name.replace(", ", "-").replace(" ", "-"))
        made.append(Case(name=name, work=functools.partial(extraction.work, short)))
    return made


def road(cases: JsonObject, extractions: dict[str, Extraction], frames: int) -> None:
    """Add to each case the CPU seconds a frame inside the solver and beside it, and ratios of the latter."""
    beside: dict[str, list[float]] = {}
    for name, extraction in extractions.items():
        solved = [one.cpu_s / frames for one in extraction.solved[-cases[name]["rounds"] :]]
        both = zip(cases[name]["cpu_s"]["values"], solved, strict=True)
        beside[name] = [whole - inside for whole, inside in both]
        cases[name] |= {"solver_cpu_s": spread(solved), "beside_solver_cpu_s": spread(beside[name])}
    for mine, theirs in COMPARED:
        both = zip(beside[mine], beside[theirs], strict=True)
        cases[mine].setdefault("beside_solver_ratio_to", {})[theirs] = spread([a / b for a, b in both])


def after_start(cases: JsonObject, frames: int) -> None:
    """Add the CPU seconds a frame beside the solver and the start, round by round, and ratios of them."""
    left: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for both in COMPARED for name in both):
        start = cases[STARTS[name.startswith(RIVAL)]]["cpu_s"]["values"]
        beside = cases[name]["beside_solver_cpu_s"]["values"]
        left[name] = [whole - once / frames for whole, once in zip(beside, start, strict=True)]
        cases[name]["after_start_cpu_s"] = spread(left[name])
    for mine, theirs in COMPARED:
        both = zip(left[mine], left[theirs], strict=True)
        cases[mine].setdefault("after_start_ratio_to", {})[theirs] = spread([a / b for a, b in both])


def markdown(report: JsonObject) -> str:
    """Return the tables of a report: times a frame and bytes, then ratios."""
    head = ("", "frames/s", "CPU ms a frame", "beside the solver", "less the start", "bytes a frame")
    lines = [f"| {' | '.join(head)} | flow bytes a pixel and field |", f"|{'---|' * (len(head) + 1)}"]
    for name, row in report["cases"].items():
        if name in STARTS:
            continue
        speed = spread([1 / wall for wall in row["wall_s"]["values"]])
        words = [name, shown(speed), shown(row["cpu_s"], scale=1e3)]
        if "fields" in row:
            words += [shown(row[key], scale=1e3) for key in ("beside_solver_cpu_s", "after_start_cpu_s")]
            words.append(f"{row['store_bytes'] / row['frames']:.0f}")
            words.append(f"{row['flow_bytes_a_pixel_and_field']:.4f}")
        lines.append(f"| {' | '.join(words)} |{' |' * (len(head) + 1 - len(words))}")
    compared = (*COMPARED, (OURS, DECODE), STARTS)
    for mine, theirs in compared:
        ratio = report["cases"][mine]["ratio to"][theirs]
        line = f"{mine} / {theirs}: CPU {shown(ratio['cpu'])}, wall {shown(ratio['wall'])}"
        for label, key in (("beside the solver", "beside_solver"), ("less the start", "after_start")):
            found = report["cases"][mine].get(f"{key}_ratio_to", {}).get(theirs)
            line += f", {label} {shown(found)}" if found else ""
        lines.append(line)
    starts = (f"{name}: CPU {shown(report['cases'][name]['cpu_s'])} s a run" for name in STARTS)
    return "\n".join([*lines, *starts])


def measure(rival: Path, paths: Sequence[Path], folder: Path, *, rounds: int) -> JsonObject:
    """Time both checkouts on the clips, which lie in one folder."""
    videos, warm, frames = paths[0].parent, folder / "warm", decode_all(paths)
    warm.mkdir()
    shutil.copy(paths[0], warm)
    first = Extraction(ROOT, folder / "first")
    facts = store_facts(first.work(videos))
    write_canned(paths, facts["sizes"], folder / "canned.npz")
    canned = folder / "canned.npz"
    extractions = {
        OURS: Extraction(ROOT, folder / "a"),
        RIVAL: Extraction(rival, folder / "b"),
        RIVAL_FAST: Extraction(rival, folder / "c", ("--preset", "fast")),
        OURS_ROAD: Extraction(ROOT, folder / "d", canned=canned),
        RIVAL_ROAD: Extraction(rival, folder / "e", canned=canned),
    }
    cases = [
        Case(
            name=name,
            work=functools.partial(extraction.work, videos),
            units=frames,
            accuracy=store_facts,
            warm_up=functools.partial(extraction.work, warm),
        )
        for name, extraction in extractions.items()
    ]
    cases.append(Case(name=DECODE, work=functools.partial(decode_all, paths), units=frames))
    cases += start_cases(rival, folder)
    report = run(
        "a whole extraction against another checkout's: seconds a frame on one core, and bytes",
        cases,
        rounds=rounds,
        rival=(RIVAL, RIVAL_FAST, RIVAL_ROAD, DECODE, STARTS[1]),
        on_round=lambda number: print(f"round {number + 1}", flush=True),
    )
    road(report["cases"], extractions, frames)
    after_start(report["cases"], frames)
    for name, extraction in extractions.items():
        row = report["cases"][name]
        same = all(row[key] == facts[key] for key in ("frames", "fields", "sizes"))
        if not same or extraction.solved[-1].pairs != facts["fields"]:
            raise SystemExit(f"{name} is of other frames than ours: {row}")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rival", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        paths = choose_clips(options.clips, Path(temporary) / "videos")
        report = measure(options.rival, paths, Path(temporary), rounds=options.rounds)
    report["clips"] = [path.name for path in paths]
    report["rival_commit"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.rival, capture_output=True, text=True, check=True
    ).stdout.strip()
    print(markdown(report))
    print(json.dumps({key: report[key] for key in ("clips", "rival_commit")}))
    print(f"written to {write_result('extract-rival', report)}")


if __name__ == "__main__":
    main()
