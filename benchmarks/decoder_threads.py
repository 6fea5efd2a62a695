"""Whether decoding by several threads gives the frames of one where a file is damaged.

    python -m benchmarks.decoder_threads

Each real video is decoded as it is and with random bytes in three places, by one thread and by four. A
sign of damage is an error, or a frame that the decoder marks; without one nobody can know that the frames
of several threads are not those of one.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import itertools
import os
import random
from pathlib import Path

import av
import av.error

from benchmarks.record import ROOT, write_result

DATA = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
FORMATS = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg"}
BYTES = (20_000, 6_000_000)
THREADS = 4
MOST_FRAMES = 150
PLACES = 3
RUNS = (1, 8, 200)
Decoded = tuple[str, list[str], int | None]


def main() -> None:
    """Compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="damaged copies of each video")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for turn, path in itertools.product(range(1 + options.rounds), videos()):
        data = path.read_bytes()
        damaged = with_damage(data, chance) if turn else data
        one, several = decoded(damaged, 1), decoded(damaged, THREADS)
        if one is not None and several is not None:
            found[one[0]].update([f"{'damaged' if turn else 'whole'}: {compared(one, several)}"])
    counts = {codec: dict(sorted(counted.items())) for codec, counted in sorted(found.items())}
    print(write_result("decoder-threads", {"options": vars(options), "threads": THREADS, "codecs": counts}))


def videos() -> list[Path]:
    """Return the real videos of moderate size."""
    found = (path for path in (DATA / "videos").rglob("*") if path.suffix in FORMATS)
    return sorted(path for path in found if BYTES[0] < path.stat().st_size < BYTES[1])


def with_damage(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes with random ones in some places, header and end excepted."""
    damaged = bytearray(data)
    for _ in range(PLACES):
        start = chance.randrange(len(data) // 8, len(data) * 7 // 8)
        count = min(chance.choice(RUNS), len(data) - start)
        damaged[start : start + count] = chance.randbytes(count)
    return bytes(damaged)


def decoded(data: bytes, threads: int) -> Decoded | None:
    """Return the codec, the digests of frames, and the number of frames before the first sign of damage."""
    digests: list[str] = []
    signs: list[int] = []
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = threads
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                try:
                    frames = stream.decode(packet)
                except av.error.FFmpegError:
                    signs.append(len(digests))
                    continue
                for frame in frames:
                    signs += [len(digests)] * frame.is_corrupt
                    pixels = frame.reformat(format="gray").to_ndarray()
                    digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
                if len(digests) >= MOST_FRAMES:
                    break
            return stream.codec_context.name, digests[:MOST_FRAMES], signs[0] if signs else None
    except (av.error.FFmpegError, IndexError):
        return None


def compared(one: Decoded, several: Decoded) -> str:
    """Say how the frames of several threads compare with those of one."""
    (_, expected, _), (_, got, sign) = one, several
    if expected == got:
        return "equal"
    if sign is None:
        return "differ, no sign"
    pairs = enumerate(zip(expected, got, strict=False))
    first = next((k for k, (a, b) in pairs if a != b), min(len(expected), len(got)))
    return "differ before the first sign" if first < sign else "differ from the first sign on"


if __name__ == "__main__":
    main()
