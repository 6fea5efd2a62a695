"""Text attributes of files without a checksum over them, read by a process that its CPU time can end.

HDF5 keeps text of variable length in heaps that have no checksum, and one flipped bit there may have it
loop for ever, deaf to signals, under Python's lock. Files of format 1.1 are read without them; those of
format 1.0, and damaged ones whose text may still be of use, are asked for it here.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py

from flowkit import errors
from flowkit.errors import FlowkitError, StoreCorruptError, StoreUnreadableError
from flowkit.store import checked_hdf5
from flowkit.store.record import Attributes

_CPU_SECONDS = 3
"""What the process may use, start included (.3 s); reading a video's attributes takes some 2 ms."""
_NODES_A_SECOND = 100
_MEMORY_BYTES = 1 << 30
_START = "import sys; sys.path.append(sys.argv[1]); from flowkit.store.heap_text import main; main()"
_READY = b"ready\n"
_OF_THE_FILE = {-signal.SIGXCPU, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE}
"""How the process ends over a damaged file, once it has started."""
_KINDS: dict[str, type] = {"str": str, "int": int, "float": float}


def read_attributes(path: Path, nodes: Sequence[str], wanted: Mapping[str, type]) -> list[Attributes]:
    """Return the wanted attributes of several objects of a file; see `checked_hdf5.read_attrs`.

    Parameters
    ----------
    path
        The file.
    nodes
        Names of groups or datasets, as `/` or `videos/HandStand/clip_07`.
    wanted
        Names and types of the attributes.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        An object is missing or is none of the file's own, or HDF5 does not come to an end with it.
    StoreUnreadableError
        The system does not let the file be read now, or the process does not start.
    """
    kinds = {name: kind.__name__ for name, kind in wanted.items()}
    question = json.dumps({"path": os.path.abspath(path), "nodes": list(nodes), "wanted": kinds})
    answer = json.loads(_reply(path, question))
    if isinstance(answer, dict):
        kind: type[FlowkitError] = getattr(errors, answer["error"])
        raise kind(answer["message"])
    return list(answer)


def _reply(path: Path, question: str) -> bytes:
    """Start the reading process and return its reply."""
    package = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-c", _START, package],
        input=question.encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    _, ready, reply = done.stdout.partition(_READY)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        # Whatever else ended it, such as a package that does not import, says nothing of the file.
        if not ready or done.returncode not in _OF_THE_FILE:
            raise StoreUnreadableError(
                f"{path} cannot be read now (the process that reads its text ended with status "
                f"{': '.join([str(done.returncode), *last])}): see that it can start, or free some memory"
            )
        said = "comes to no end" if done.returncode == -signal.SIGXCPU else "crashes"
        raise StoreCorruptError(
            f"{path} is damaged: HDF5 {said} over its text; "
            "`flowkit verify --repair` moves what is broken aside"
        )
    return reply


def root_attributes(path: Path, wanted: Mapping[str, type]) -> Attributes:
    """Return attributes of a file's root; asked for once while the file stays as it is."""
    state = path.stat()
    state_key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    return dict(_root_attributes(path, state_key, tuple(wanted.items())))


@functools.lru_cache(maxsize=1024)
def _root_attributes(
    path: Path, state_key: tuple[int, ...], wanted: tuple[tuple[str, type], ...]
) -> Attributes:
    return read_attributes(path, ["/"], dict(wanted))[0]


def _read(path: Path, nodes: Sequence[str], wanted: Mapping[str, type]) -> list[Attributes]:
    with checked_hdf5.contained(path), h5py.File(path, "r", locking=False) as file:
        found = []
        for name in nodes:
            with checked_hdf5.contained(f"{name!r} of {path}"):
                node = file if name == "/" else checked_hdf5.child(file, name)
                found.append(checked_hdf5.read_attrs(node, wanted))
        return found


def _limit(resource_id: int, value: int) -> None:
    """Set a limit of this process, within what it was given."""
    _, hard = resource.getrlimit(resource_id)
    resource.setrlimit(resource_id, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main() -> None:
    """Answer the question on standard input: the reading process."""
    question = json.load(sys.stdin)
    sys.stdout.write(_READY.decode())
    sys.stdout.flush()
    seconds = _CPU_SECONDS + len(question["nodes"]) // _NODES_A_SECOND
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_DATA, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    wanted = {name: _KINDS[kind] for name, kind in question["wanted"].items()}
    answer: list[Attributes] | dict[str, str]
    try:
        answer = _read(Path(question["path"]), question["nodes"], wanted)
    except FlowkitError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    json.dump(answer, sys.stdout)
