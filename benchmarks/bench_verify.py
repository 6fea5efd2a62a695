"""`flowkit verify`: MB/s of a store of clips, ms a clip of many tiny ones, and what a second process gains.

    python -m benchmarks.bench_verify STORE [--tiny 20000] [--rounds 5]

STORE is any store of flowkit's. Beside it TINY clips of 20 frames at 34 x 26 px are made. Both are verified
by checksums and decoded (`--deep`), with one job and with one a core, in turn; files are in the system's
cache. The limits: reading the file, and the CRC of its bytes, in one thread. Writes one JSON file to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import Case, run, shown
from benchmarks.record import JsonObject, write_result
from benchmarks.tiny_store import HEIGHT, WIDTH, tiny_record
from flowkit import jpeg
from flowkit.store.codecs.deflate import crc32
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.store.tools.verify import verify
from flowkit.store.write.pack import finalize
from flowkit.store.write.part import PartWriter

FRAMES = 20
READ_BYTES = 4 << 20


def make_tiny(path: Path, count: int) -> None:
    """Make a store of so many clips, of ten classes."""
    options = StoreOptions(fields=(FieldOptions(tvl1_preset="fast", tvl1_params="{}"),))
    rng = np.random.default_rng(0)
    images = [jpeg.encode(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)) for _ in range(FRAMES)]
    flows = [
        options.codec.encode(rng.normal(0, 2, (2, HEIGHT, WIDTH)).astype(np.float32))
        for _ in range(FRAMES - 1)
    ]
    parts = PartsFolder(path)
    for number in range(count):
        video_id = f"c{number % 10}/v{number:06}"
        part = parts.part_path(video_id)
        part.parent.mkdir(parents=True, exist_ok=True)
        with PartWriter(part, video_id=video_id, options=options, width=WIDTH, height=HEIGHT) as writer:
            for k, image in enumerate(images):
                writer.add_frame(k / 25, image)
            for flow in flows:
                writer.add_flow("flow", flow)
            writer.commit(tiny_record(video_id, FRAMES))
    finalize(path, options=options)


def checked(path: Path, **choices: object) -> None:
    """Verify a store, which must be sound."""
    report = verify(path, **choices)  # type: ignore[arg-type]
    if not report.sound:
        raise SystemExit(f"{path} is not sound: {report}")


def summed(path: Path, crc: Callable[[bytes, int], int]) -> None:
    """Read a file and add up its CRC."""
    value = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            value = crc(data, value)


def read(path: Path) -> None:
    """Read a file."""
    summed(path, lambda data, value: 0)


def cases(path: Path, units: float) -> list[Case]:
    """Return every way of a store, by a unit of its size."""
    cores = len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], object]] = {
        "read alone": functools.partial(read, path),
        "CRC alone, libdeflate": functools.partial(summed, path, crc32),
        "CRC alone, zlib": functools.partial(summed, path, zlib.crc32),
    }
    for jobs in (1, cores):
        ways[f"checksums, {jobs} jobs"] = functools.partial(checked, path, jobs=jobs)
        ways[f"deep, {jobs} jobs"] = functools.partial(checked, path, deep=True, jobs=jobs)
    return [Case(name=name, work=work, units=units) for name, work in ways.items()]


def main() -> None:
    """Measure both stores and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--tiny", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sections: JsonObject = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.h5"
        make_tiny(tiny, options.tiny)
        stores = {
            "clips": (options.store, options.store.stat().st_size / 1e6, "s a MB"),
            "tiny clips": (tiny, options.tiny, "s a clip"),
        }
        for name, (path, units, unit) in stores.items():
            sections[name] = run(f"{name}, {unit}", cases(path, units), rounds=options.rounds, cores="all")
            sections[name]["bytes"] = path.stat().st_size
            for case, row in sections[name]["cases"].items():
                print(f"{name}: {case}: {shown(row['wall_s'], scale=1e3)} ms{unit[1:]}", flush=True)
    print(write_result("verify", {"tiny_clips": options.tiny, "sections": sections}))


if __name__ == "__main__":
    main()
