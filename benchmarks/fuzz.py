"""Coverage-guided fuzzing of what reads files from elsewhere: lists of videos, and stores.

    pip install atheris
    python -m benchmarks.fuzz [--minutes 30] [--only lists|stores] [--keep FOLDER]

lists    the parsers of video lists, class files, split files and tables of groups: any bytes
stores   a small store with bytes of one of its blocks in another's place: `/metadata` (JSON), the tables and
         the address arrays of the index, each with the checksum that it then needs, so that the reader gets
         past it; small videos among the first eight are then read

An input that raises anything but flowkit's own error, crashes the process, takes 20 s or 1 GiB is a fault;
libFuzzer (by atheris) writes it to a file, which stays, and the run says where. The corpus begins with sound
files. Writes one JSON file to benchmarks/results: runs, edges covered in flowkit's code, faults.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.record import ROOT, JsonObject, write_result

TARGETS = ("lists", "stores")
MOST_SECONDS, MOST_MIB = 20, 1024
MEMORY = Path("/dev/shm")
"""Files that are written for each input lie there, in memory."""
_BLOCK = b"\0\0BLOCK\0\0"
"""Between the blocks of an input of the target stores."""


def lists_target(folder: Path) -> Callable[[bytes], None]:
    """Return the parsers of lists, as a function of a file's bytes after one that chooses the parser.

    It raises flowkit's own errors; `folder` is for the files that are read by their paths.
    """
    from flowkit.datasets.split_sources import groups_from_csv, labels_from_csv, parse_classes
    from flowkit.datasets.splits import parse_split
    from flowkit.datasets.text import decode_text
    from flowkit.extraction.lists import COLUMN_NAMES, parse_list

    def parse(data: bytes) -> None:
        if not data:
            return
        kind, data = data[0], data[1:]
        if kind % 5 == 4:
            path = folder / "a.csv"
            path.write_bytes(data)
            read = (groups_from_csv, labels_from_csv)[kind % 2]
            read(path, ["a", "b/c"]) if kind % 3 else parse_split(path, "a")
            return
        lines = decode_text(data, source="list").splitlines()
        if kind % 5 == 3:
            parse_classes(lines, source="classes")
            return
        columns = COLUMN_NAMES[: kind % 4] if kind % 5 == 2 else ()
        parse_list(
            lines,
            source="list",
            classes={0: "a", 1: "b"} if kind & 16 else None,
            is_video=(lambda path: path.endswith(".mp4")) if kind & 32 else lambda path: False,
            of_folders=bool(kind & 64) or bool(columns),
            columns=columns,
        )

    return parse


def write_list_corpus(folder: Path) -> None:
    """Write sound lists, each after a byte that chooses the parser."""
    texts = {
        0: "a.mp4\nb.mp4\n",
        1: "a.mp4 0\nb/c.mp4 1\n",
        16: "v/a.mp4 120 0\nv/b.mp4 90 1\n",
        5: "path,label,start,end,id\na.mp4,x,0,1.5,one\nb.mp4,y,,,two\n",
        10: "youtube_id;label;time_start;time_end\nabc;x;1;11\n",
        65: "a 1 20 0\nb 5 9 1\n",
        67: "a 1 20 0\nb 5 9 1\n",
        3: "1 ApplyEyeMakeup\n2 Archery\n",
        4: "id,group\na,1\nb/c,2\n",
        19: "id,label\na,x\nb/c,y\n",
        9: "id,subset\na,train\nb/c,test\n",
        24: "id,fold\na,1\nb/c,2\n",
        35: "# b.mp4\na b.mp4\nc d.mp4\n",
    }
    for kind, text in texts.items():
        (folder / f"{kind}").write_bytes(bytes([kind]) + text.encode())


class StoreParts:
    """A small store, and its blocks that readers take apart."""

    def __init__(self, folder: Path) -> None:
        from tests.make.store_bases import make_bases

        (folder / "bases").mkdir()
        self.base = make_bases(folder / "bases")[0].store
        self.path = folder / "out.h5"

    def blocks(self) -> list[bytes]:
        """Return the blocks of the sound store: metadata, tables, arrays of the index."""
        with h5py.File(self.base) as file:
            return [file[name][()].tobytes() for name in _names(file)]

    def write(self, blocks: list[bytes]) -> None:
        """Write the store with these blocks and their checksums; one that does not fit its type stays."""
        shutil.copyfile(self.base, self.path)
        with h5py.File(self.path, "r+") as file:
            del file["index/file_crc32"]  # of the whole file: `verify` asks for it, no reader
            for name, data in zip(_names(file), blocks, strict=False):
                if data and data != file[name][()].tobytes() and len(data) % file[name].dtype.itemsize == 0:
                    _replace(file, name, data)


def _names(file: h5py.File) -> list[str]:
    index = (f"index/{name}" for name in file["index"])
    return ["metadata", *sorted(name for name in index if name != "index/file_crc32")]


def _replace(file: h5py.File, name: str, data: bytes) -> None:
    from flowkit.store.codecs.deflate import crc32

    values, attrs = np.frombuffer(data, file[name].dtype), dict(file[name].attrs)
    del file[name]
    made = file.create_dataset(name, data=values)
    made.attrs.update(attrs)
    if "crc32" in attrs:
        made.attrs.create("crc32", crc32(data), dtype="<i8")


def stores_target(folder: Path) -> Callable[[bytes], None]:
    """Return the reader of a store, as a function of its blocks; it raises flowkit's own errors."""
    import flowkit
    from flowkit.errors import FlowkitError

    parts = StoreParts(folder)

    def read(data: bytes) -> None:
        parts.write(data.split(_BLOCK))
        with flowkit.open(parts.path) as store:
            for video_id in list(store)[:8]:
                with contextlib.suppress(FlowkitError):
                    clip = store[video_id]
                    if clip.n_frames < 64 and clip.width * clip.height < 1 << 16:
                        clip.frames([0])
                        clip.flow(0, 2)
                        _ = clip.pts, clip.record, clip.label

    return read


def write_store_corpus(folder: Path) -> None:
    """Write the blocks of a sound store."""
    with tempfile.TemporaryDirectory() as temporary:
        blocks = StoreParts(Path(temporary)).blocks()
    (folder / "sound").write_bytes(_BLOCK.join(blocks))


def fuzz(target: str, folder: Path, rest: list[str]) -> None:
    """Run libFuzzer in this process, with `folder` for its files; it does not return."""
    import atheris

    with atheris.instrument_imports(include=["flowkit"]):
        import flowkit.datasets.split_sources
        import flowkit.extraction.lists
        import flowkit.store.read.store
    read = lists_target(folder) if target == "lists" else stores_target(folder)

    def unless_refused(data: bytes) -> None:
        with contextlib.suppress(flowkit.FlowkitError):
            read(data)

    atheris.Setup([sys.argv[0], *rest], unless_refused)
    atheris.Fuzz()


def campaign(target: str, folder: Path, *, minutes: float) -> JsonObject:
    """Fuzz one target in a process of its own; return what libFuzzer says at its end."""
    corpus, found = folder / f"corpus-{target}", folder / f"faults-{target}"
    corpus.mkdir(parents=True)
    found.mkdir()
    (write_list_corpus if target == "lists" else write_store_corpus)(corpus)
    seeds = len(list(corpus.iterdir()))
    words = [
        *(f"-max_total_time={round(60 * minutes)}", f"-timeout={MOST_SECONDS}"),
        *(f"-rss_limit_mb={MOST_MIB}", f"-artifact_prefix={found}/", "-print_final_stats=1", "-seed=1"),
        *(f"-max_len={4096 if target == 'lists' else 65536}", str(corpus)),
    ]
    # libFuzzer ends the process without its exit handlers: this one removes the files.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz", "--inside", target, scratch, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    # A "slow unit" took ten seconds, as on a busy machine: a remark of libFuzzer, not a fault.
    faults = sorted(path.name for path in found.iterdir() if not path.name.startswith("slow-unit"))
    if faults:
        print(done.stderr[-6000:], f"kept in {found}: {faults}", sep="\n")
    return {
        "minutes": minutes,
        "seeds": seeds,
        "runs": int(runs[1]) if runs else 0,
        "edges_at_first": int(covered[0][0]) if covered else 0,
        "edges": int(covered[-1][0]) if covered else 0,
        "features": int(covered[-1][1]) if covered else 0,
        "corpus": int(covered[-1][2]) if covered else 0,
        "status": done.returncode,
        "faults": faults,
    }


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of each target")
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--keep", type=Path, help="new folder for corpora and faults")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="flowkit-fuzz-"))
    result = {
        target: campaign(target, folder, minutes=options.minutes)
        for target in TARGETS
        if options.only in (None, target)
    }
    failed = any(row["faults"] or row["status"] for row in result.values())
    if not options.keep and not failed:
        shutil.rmtree(folder)
    for target, row in result.items():
        print(target, row)
    print(write_result("fuzz", result))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
