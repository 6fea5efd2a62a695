"""A store of 200,000 videos: what opens, reads, copies and resumes it in what time and memory.

    python -m benchmarks.scale DIR [--videos 200000] [--stores 16] [--paths 650000] [--rounds 3]

makes DIR/part/NN.h5 (stores of equal size, whose videos are copies of one tiny clip under names of their own,
written by flowkit's own writer of files) and DIR/videos, a file of one byte for each video, with the size
and time that the store's records name. Then it measures, each in a process of its own: `merge` of all stores
into one file and into shards, open to first clip, look-ups, `info`, `subset`, `verify`, `extract` of the
folder with nothing to do, and the plan of a list of 650,000 paths. Stores that are complete stay. Seconds
are of the wall and of the CPU, bytes the most that the process had resident. Writes one JSON file to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from benchmarks.record import JsonObject, python_path, write_result
from benchmarks.tiny_store import HEIGHT, WIDTH, tiny_record
from flowkit import jpeg
from flowkit.extraction.config import ExtractConfig, store_options
from flowkit.store.metadata import read_proofs, write_record
from flowkit.store.open_file import open_file
from flowkit.store.record import VideoRecord
from flowkit.store.schema import VIDEOS, StoreOptions
from flowkit.store.write.container import ContainerWriter, Lists
from flowkit.store.write.part import PartWriter

FRAMES = 4
CLASSES = 400
SOURCE_NS = 1_700_000_000_000_000_000
LOOK_UPS = 20_000
SHARDS = 16


def video_id(number: int) -> str:
    """Return the id of a video."""
    return f"c{number % CLASSES:03}/v{number:07}"


def record(number: int) -> VideoRecord:
    """Return the record of a video."""
    return tiny_record(video_id(number), FRAMES, source_mtime_ns=SOURCE_NS)


def default_options() -> StoreOptions:
    """Return the options of a store that `flowkit extract` makes by default."""
    return store_options(ExtractConfig(), backend="cpu")


def write_template(path: Path, options: StoreOptions) -> None:
    """Write the part that every video is a copy of."""
    rng = np.random.default_rng(0)
    with PartWriter(path, video_id=video_id(0), options=options, width=WIDTH, height=HEIGHT) as writer:
        for k in range(FRAMES):
            writer.add_frame(k / 25, jpeg.encode(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)))
        for _ in range(FRAMES - 1):
            flow = rng.normal(0, 2, (2, HEIGHT, WIDTH)).astype(np.float32)
            writer.add_flow("flow", options.codec.encode(flow))
        writer.commit(record(0))


class Repeating(ContainerWriter):
    """A container that takes one video under many names."""

    def repeat(self, template: Path, records: Sequence[VideoRecord]) -> None:
        """Copy the template's video once for each record."""
        nested = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        nested.set_create_intermediate_group(True)
        bare = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
        bare.set_copy_object(h5py.h5o.COPY_WITHOUT_ATTR_FLAG)
        with open_file(template) as file, self._guarded() as out:
            source = f"{VIDEOS}/{video_id(0)}".encode()
            proofs = read_proofs(file[source])
            for each in records:
                target = f"{VIDEOS}/{each.video_id}".encode()
                h5py.h5o.copy(file.id, source, out.file.id, target, bare, nested)
                write_record(out.file[target], each, proofs)


def make_store(folder: Path, number: int, first: int, count: int) -> Path:
    """Make one of the stores, unless it is there; return it."""
    path = folder / f"{number:02}.h5"
    if path.exists():
        return path
    options = default_options()
    template = folder / f"template-{number:02}.h5"
    write_template(template, options)
    records = {each.video_id: each for each in sorted(map(record, range(first, first + count)), key=_by_id)}
    with Repeating(path, options) as out:
        out.repeat(template, list(records.values()))
        labels = tuple(sorted({each.label for each in records.values()}))
        out.commit(path, records, Lists(options=options, labels=labels, failures=()), number=-1)
    template.unlink()
    return path


def _by_id(each: VideoRecord) -> str:
    return each.video_id


def make_sources(folder: Path, count: int) -> None:
    """Make the files that the store's videos are said to be of."""
    done = folder / ".complete"
    if done.exists() and done.read_text() == str(count):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for each in range(CLASSES):
        (folder / f"c{each:03}").mkdir(parents=True)
    for number in range(count):
        path = folder / f"{video_id(number)}.avi"
        path.write_bytes(b"x")
        os.utime(path, ns=(SOURCE_NS, SOURCE_NS))
    done.write_text(str(count))


def make_all(folder: Path, videos: int, stores: int, jobs: int) -> list[Path]:
    """Make stores and sources; return the stores."""
    parts = folder / "part"
    parts.mkdir(parents=True, exist_ok=True)
    each = -(-videos // stores)
    firsts = range(0, videos, each)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = [
            pool.submit(make_store, parts, number, first, min(each, videos - first))
            for number, first in enumerate(firsts)
        ]
        make_sources(folder / "videos", videos)
        return [one.result() for one in made]


# What is measured in a process of its own: `python -m benchmarks.scale --probe NAME STORE`.


def probe_imports(store: Path) -> JsonObject:
    """Import alone, which every other one has as well."""
    return {}


def probe_first_clip(store: Path) -> JsonObject:
    """Open, and read one frame and one field of a video in the middle."""
    import flowkit

    began = time.perf_counter()
    with flowkit.open(store) as opened:
        name = video_id(len(opened) // 2)
        clip = opened[name]
        shapes = clip.flow(0, 1).shape, clip.frames([0]).shape
    return {"open_to_first_clip_s": time.perf_counter() - began, "shapes": [list(one) for one in shapes]}


def probe_look_ups(store: Path) -> JsonObject:
    """Look up clips at random, and read a field of some."""
    import flowkit

    with flowkit.open(store) as opened:
        rng = np.random.default_rng(1)
        names = [video_id(int(k)) for k in rng.integers(0, len(opened), LOOK_UPS)]
        began = time.perf_counter()
        frames = sum(opened[name].n_frames for name in names)
        counted = time.perf_counter()
        for name in names[:2000]:
            opened[name].flow(0, 1)
        read = time.perf_counter()
        labels = opened.column("label")
        ended = time.perf_counter()
    assert frames == FRAMES * len(names)
    return {
        "look_up_us": 1e6 * (counted - began) / len(names),
        "first_field_us": 1e6 * (read - counted) / 2000,
        "column_s": ended - read,
        "classes": len(set(labels)),
    }


def probe_plan(store: Path) -> JsonObject:
    """Plan a list of paths, of which those that the store has are done."""
    from flowkit.extraction.lists import parse_list
    from flowkit.extraction.run import prepare
    from flowkit.extraction.sources import ListedPaths, sources_of_list

    root = store.parent / "videos"
    began = time.perf_counter()
    with (store.parent / "paths.txt").open() as lines:
        listed = parse_list(lines, source="paths.txt", is_video=ListedPaths(root).__contains__)
    parsed = time.perf_counter()
    sources = sources_of_list(listed.entries, root=root)
    found = time.perf_counter()
    plan = prepare(sources, store).plan
    ended = time.perf_counter()
    return {
        "paths": len(sources),
        "todo": len(plan.todo),
        "stored": len(plan.stored),
        "parse_s": parsed - began,
        "sources_s": found - parsed,
        "plan_s": ended - found,
    }


PROBES: dict[str, Callable[[Path], JsonObject]] = {
    "imports": probe_imports,
    "first clip": probe_first_clip,
    "look-ups": probe_look_ups,
    "plan of a list": probe_plan,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Time and memory of a process, and its last line."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    said: JsonObject


def measured(words: Sequence[str | Path]) -> Cost:
    """Run a module of Python to its end; the last line of a probe is JSON."""
    line = [sys.executable, "-m", *map(str, words)]
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        child = os.posix_spawn(
            sys.executable,
            line,
            {**os.environ, "PYTHONPATH": python_path()},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
        )
        _, status, used = os.wait4(child, 0)
        wall = time.perf_counter() - began
        output.seek(0)
        text = output.read()
    if status:
        raise SystemExit(f"{' '.join(line)}: status {os.waitstatus_to_exitcode(status)}\n{text[-2000:]}")
    last = text.strip().splitlines()[-1] if text.strip() else ""
    said = json.loads(last) if last.startswith("{") else {"last_line": last[:200]}
    return Cost(wall_s=wall, cpu_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss << 10, said=said)


def probe(name: str, store: Path) -> Cost:
    """Measure one of `PROBES`."""
    return measured(["benchmarks.scale", store, "--probe", name])


def command(*words: str | Path) -> Cost:
    """Measure one of flowkit's own commands."""
    return measured(["flowkit_cli", *words])


def clear(store: Path) -> None:
    """Remove a store and what stands beside it."""
    for path in store.parent.glob(f"{store.name}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def merged(stores: Sequence[Path], out: Path, *options: str) -> Cost:
    """Merge the stores anew."""
    clear(out)
    return command("merge", *stores, "-o", out, *options)


def write_lists(folder: Path, videos: int, paths: int) -> None:
    """Write the list of all paths, of which the first are videos that exist, and one of ids."""
    with (folder / "paths.txt").open("w") as file:
        file.writelines(f"{video_id(number)}.avi c{number % CLASSES:03}\n" for number in range(paths))
    with (folder / "ids.txt").open("w") as file:
        file.writelines(f"{video_id(number)}\n" for number in range(0, videos, 10))


def measurements(folder: Path, stores: Sequence[Path]) -> dict[str, Callable[[], Cost]]:
    """Return what is measured, by name, in order."""
    one, sharded, some = folder / "one.h5", folder / "sharded.h5", folder / "some.h5"
    total = sum(path.stat().st_size for path in stores)

    def subset() -> Cost:
        clear(some)
        return command("subset", one, "--list", folder / "ids.txt", "-o", some)

    call = functools.partial
    ways: dict[str, Callable[[], Cost]] = {
        "merge into one file": call(merged, stores, one),
        "merge into shards": call(merged, stores, sharded, "--shard-size", str(total // SHARDS)),
        "imports": call(probe, "imports", one),
    }
    for name, store in (("one file", one), ("shards", sharded)):
        ways |= {
            f"first clip, {name}": call(probe, "first clip", store),
            f"look-ups, {name}": call(probe, "look-ups", store),
            f"info, {name}": call(command, "info", store),
            f"verify, {name}": call(command, "verify", store),
            f"extract with nothing to do, {name}": call(command, "extract", folder / "videos", store),
        }
    return ways | {
        "subset of a tenth": subset,
        "plan of a list": call(probe, "plan of a list", one),
    }


ONCE = ("merge into one file", "merge into shards", "subset of a tenth", "plan of a list")


def row(costs: Sequence[Cost]) -> JsonObject:
    """Return the medians of some runs, and the runs."""
    return {
        "wall_s": statistics.median(cost.wall_s for cost in costs),
        "cpu_s": statistics.median(cost.cpu_s for cost in costs),
        "peak_bytes": max(cost.peak_bytes for cost in costs),
        "runs": [dataclasses.asdict(cost) for cost in costs],
    }


def main() -> None:
    """Make what is not there, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--probe", choices=PROBES, help=argparse.SUPPRESS)
    parser.add_argument("--videos", type=int, default=200_000)
    parser.add_argument("--stores", type=int, default=16)
    parser.add_argument("--paths", type=int, default=650_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="names that contain a word")
    options = parser.parse_args()
    if options.probe:
        said = PROBES[options.probe](options.folder)
        print(
            json.dumps({**said, "own_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10})
        )
        return
    stores = make_all(options.folder, options.videos, options.stores, len(os.sched_getaffinity(0)))
    write_lists(options.folder, options.videos, options.paths)
    found: JsonObject = {}
    for name, work in measurements(options.folder, stores).items():
        if options.only and not any(word in name for word in options.only):
            continue
        rounds = 1 if name in ONCE else options.rounds
        found[name] = row([work() for _ in range(rounds)])
        print(
            f"{name}: {found[name]['wall_s']:.3f} s, CPU {found[name]['cpu_s']:.3f} s, "
            f"{found[name]['peak_bytes'] / 1e6:.0f} MB, {found[name]['runs'][0]['said']}",
            flush=True,
        )
    sizes = {path.name: path.stat().st_size for path in (*stores, options.folder / "one.h5")}
    if not options.only:
        print(write_result("scale", {"videos": options.videos, "bytes": sizes, "measured": found}))


if __name__ == "__main__":
    main()
